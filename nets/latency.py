"""How long a network takes for one batch, and two networks side by side: measured, warmed up, medians with their spread.

Dense and pruned runs alternate, and which goes first alternates too, so that a processor that slows down or a
neighbour that wakes up meets both alike; the ratio is taken pair by pair. Time is the wall clock a caller waits, from
an idle device to an idle device; copying the inputs there is not part of it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from perspective.errors import InputError

REPEATS, WARMUP = 30, 5
SPREAD = (0.1, 0.9)  # quantiles shown as low and high


@final
@dataclass(frozen=True)
class Latency:
    """Seconds for one batch: the median over the repeats, and between which two values four fifths of them lie."""

    median: float
    low: float
    high: float


@final
@dataclass(frozen=True)
class LatencyRatio:
    """Pruned over dense, pair by pair: the median over the pairs, and between which two values four fifths of them lie."""

    median: float
    low: float
    high: float


@final
@dataclass(frozen=True)
class LatencyComparison:
    """ratio < 1: the pruned network is faster. Where low < 1 < high the measurement does not say which one is."""

    dense: Latency
    pruned: Latency
    ratio: LatencyRatio


def latency(
    model: nn.Module, example_inputs: Tensor | tuple[Tensor, ...], *, repeats: int = REPEATS, warmup: int = WARMUP
) -> Latency:
    """Seconds `model` takes for `example_inputs`, in evaluation mode and without gradients, on the model's device.

    The inputs are moved to that device and, where the model is channels-last, into that format, before the clock
    starts. `model` is left as it was, mode included. InputError where it does not run on the inputs, or for counts below 1.
    """
    (seconds,) = _measure((model,), example_inputs, repeats, warmup)
    return Latency(*_spread(seconds))


def compare_latency(
    dense: nn.Module,
    pruned: nn.Module,
    example_inputs: Tensor | tuple[Tensor, ...],
    *,
    repeats: int = REPEATS,
    warmup: int = WARMUP,
) -> LatencyComparison:
    """Both networks on the same inputs, alternating; otherwise as `latency`."""
    whole, left = _measure((dense, pruned), example_inputs, repeats, warmup)
    ratios = [b / a for a, b in zip(whole, left, strict=True)]
    return LatencyComparison(Latency(*_spread(whole)), Latency(*_spread(left)), LatencyRatio(*_spread(ratios)))


def _measure(
    models: Sequence[nn.Module], example_inputs: Tensor | tuple[Tensor, ...], repeats: int, warmup: int
) -> list[list[float]]:
    """Seconds of every repeat of every model; the models take turns, every second round in reverse order."""
    if repeats < 1 or warmup < 0:
        raise InputError(f"repeats is {repeats} and warmup {warmup}; take at least one repeat and no negative warm-up")
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    if not inputs or not inputs[0].dim() or not len(inputs[0]):
        raise InputError("the example inputs are empty; pass a batch of at least one input")
    seconds: list[list[float]] = [[] for _ in models]
    with _evaluating(models), torch.inference_mode():
        calls = [_call(model, inputs) for model in models]
        try:
            for repeat in range(-warmup, repeats):
                turns = list(enumerate(calls))
                for which, call in turns if repeat % 2 == 0 else reversed(turns):
                    taken = call()
                    if repeat >= 0:
                        seconds[which].append(taken)
        except (RuntimeError, TypeError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"the network does not run on the example inputs ({reason}); pass a fitting batch"
            ) from error
    if not all(min(taken) > 0 for taken in seconds):
        raise InputError("the network is faster than the clock can tell; pass a larger batch")
    return seconds


def _call(model: nn.Module, inputs: tuple[Tensor, ...]) -> Callable[[], float]:
    """A function that runs `model` once and returns the seconds it took."""
    weight = next(model.parameters(), None)
    device = inputs[0].device if weight is None else weight.device
    placed = tuple(x.to(device) for x in inputs)
    if _is_channels_last(model):
        placed = tuple(x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in placed)

    def run() -> float:
        _synchronise(device)
        start = perf_counter()
        model(*placed)
        _synchronise(device)
        return perf_counter() - start

    return run


def _synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given; a CPU call returns only then."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type != "cpu":
        raise InputError(f"latency is measured on cpu and cuda, not on {device.type}; move the network")


@contextmanager
def _evaluating(models: Sequence[nn.Module]) -> Iterator[None]:
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


def _is_channels_last(model: nn.Module) -> bool:
    convolutions = (module.weight for module in model.modules() if isinstance(module, nn.Conv2d))
    return any(not w.is_contiguous() and w.is_contiguous(memory_format=torch.channels_last) for w in convolutions)


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    low, high = np.quantile(values, SPREAD)
    return median(values), float(low), float(high)
