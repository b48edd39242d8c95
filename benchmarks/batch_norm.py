"""What do the fused batch normalisation and ReLU cost, beside copying the tensor and torch's own operations, and in a whole step?

python -m benchmarks.batch_norm [--rounds 15] [--only layers|step] [--dtype bfloat16|float32] [--out FOLDER]

On the CPU, one thread. Works of one table are timed interleaved, one after the other in every round; a ratio is the median over
rounds of the ratio within a round, with the smallest and the largest. A layer is timed forward and backward, with the allocation
of its results; its floor is the copies that read and write as much: three tensors forward (two reads, a write) and five backward
(four reads, a write), with a residual four and seven; a copy is two. The step is ResNet-20's in training, batch 128, SGD.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import clock
from benchmarks.environment import command_line, environment, keep
from nets.norm_relu import fused_norms, norm_relu
from nets.resnet import resnet20

# (batch, channels, height, width): ResNet-20's three stages, and what they are like once pruned
SHAPES = ((128, 16, 32, 32), (128, 32, 16, 16), (128, 64, 8, 8), (128, 15, 32, 32), (128, 31, 16, 16), (128, 63, 8, 8))
HEAD = (
    "| shape | residual | pass | fused, ms | fused / torch | fused / copies of as many bytes |",
    "|---|---|---|---|---|---|",
)
WIDTHS = (16, 15)  # of the network's first stage
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
Seconds = dict[str, np.ndarray]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = clock.seconds()
    answer = work()
    return clock.seconds() - start, answer


def layer_seconds(shape: tuple[int, int, int, int], added: bool, dtype: torch.dtype, rounds: int) -> Seconds:
    """By "copy", and by forward and backward of "fused" and "torch": seconds of every round."""
    torch.manual_seed(0)
    x, g, r = (torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last) for _ in range(3))
    x.requires_grad_()
    residual = r.requires_grad_() if added else None
    norm = nn.BatchNorm2d(shape[1])
    found: dict[str, list[float]] = {
        name: [] for name in ("copy", *(f"{w} {p}" for w in ("fused", "torch") for p in PASSES))
    }
    for number in range(rounds + 2):  # two untimed
        spent = {"copy": timed(lambda: torch.empty_like(x).copy_(g))[0]}
        for who in ("fused", "torch"):
            for tensor in (x, r, norm.weight, norm.bias):
                tensor.grad = None
            with fused_norms(who == "fused"):
                spent[f"{who} forward"], y = timed(lambda: norm_relu(norm, x, residual))
            spent[f"{who} backward"], _ = timed(lambda y=y: y.backward(g))
        if number > 1:
            for name, seconds in spent.items():
                found[name].append(seconds)
    return {name: np.array(seconds) for name, seconds in found.items()}


PASSES = {"forward": (3, 4), "backward": (5, 7)}  # tensors read and written, without and with a residual


def layers_table(dtype: torch.dtype, rounds: int) -> list[str]:
    """One row for each shape, with and without a residual, forward and backward."""
    lines = [f"\n### Layers, {str(dtype).removeprefix('torch.')}\n", *HEAD]
    for shape in SHAPES:
        for added in (False, True):
            seconds = layer_seconds(shape, added, dtype, rounds)
            for name, tensors in PASSES.items():
                fused = seconds[f"fused {name}"]
                floor = seconds["copy"] * tensors[added] / 2
                ratios = (spread(fused / seconds[f"torch {name}"]), spread(fused / floor))
                what = (str(shape), "yes" if added else "no", name, spread(fused * 1e3), *ratios)
                lines.append(f"| {' | '.join(what)} |")
    return lines


def stepper(width: int, dtype: torch.dtype, fused: bool) -> Callable[[], Tensor]:
    """One training step of ResNet-20, as nets/training/epoch.py takes it."""
    torch.manual_seed(0)
    model = resnet20(width=width).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    images = torch.randn(128, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (128,))

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16), fused_norms(fused):
            logits = model(images)
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def step_table(dtype: torch.dtype, rounds: int) -> list[str]:
    """Whole steps, by the width of the first stage."""
    lines = [f"\n### Training step of ResNet-20, {str(dtype).removeprefix('torch.')}\n"]
    lines += ["| width | torch, ms | fused, ms | fused / torch (goal <= 0.72, bfloat16) |", "|---|---|---|---|"]
    for width in WIDTHS:
        works = {"torch": stepper(width, dtype, False), "fused": stepper(width, dtype, True)}
        found: dict[str, list[float]] = {name: [] for name in works}
        for number in range(rounds + 2):
            for name, work in works.items():
                seconds, _ = timed(work)
                if number > 1:
                    found[name].append(seconds)
        torchs, fused = np.array(found["torch"]), np.array(found["fused"])
        lines.append(f"| {width} | {spread(torchs * 1e3)} | {spread(fused * 1e3)} | {spread(fused / torchs)} |")
    return lines


def spread(values: np.ndarray) -> str:
    low, middle, high = (f"{value:.2f}" for value in (values.min(), np.median(values), values.max()))
    return f"{middle} ({low} - {high})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch_norm", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", choices=("layers", "step"))
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="bfloat16")
    parser.add_argument("--out", type=Path, help="folder for table.md and environment.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = [f"Medians of {options.rounds} interleaved rounds (smallest - largest), one thread."]
    for name, part in (("layers", layers_table), ("step", step_table)):
        if options.only in (None, name):
            lines += part(DTYPES[options.dtype], options.rounds)
    text = "\n".join(lines)
    print(text)
    if options.out is not None:
        keep(options.out, text, environment(command_line("benchmarks.batch_norm"), ("torch", "numba", "numpy")))


if __name__ == "__main__":
    main()
