"""What a layer's channels are worth to the network: how far its answers move when that layer alone loses its smallest ones.

    price of a layer's k-th channel to go = rise of the error by it / share of the budget's count that it saves

The error is mean KL(softmax(dense) || softmax(pruned)) over some training images, with the normalisation's statistics of those
images in both (what the statistics measured again after removal will be). It is measured at eighths of a layer, the channels of
smallest norm first, and its lower convex hull is taken: so the prices rise within a layer, and channels taken in the order of
their prices are, layer by layer, those of the Lagrangian of  min sum_l e_l(k_l)  with  sum_l saved_l k_l >= the budget.
Source of the idea: sensitivity curves of Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from nets.budget import share_left, zero_channels
from nets.flow.difference import divergence
from nets.gauge import Budget, Gauge
from nets.groups import ChannelGroups, Layer
from perspective.errors import InputError

PARTS = 8
IMAGES = 256
TIE = 1e-6  # equal prices on a straight piece of the hull keep the scores' order


@final
@dataclass(frozen=True)
class Sensitivity:
    """Of one layer. errors: (channels + 1,) by the number of channels it has lost; saved: share of the count a channel saves."""

    errors: tuple[float, ...]
    saved: float


def measure_sensitivity(
    dense: nn.Module, groups: ChannelGroups, images: Tensor, budget: Budget, precision: str = "float32"
) -> dict[str, Sensitivity]:
    """For every layer of `groups`, those of the network `dense`, which is left as it is. images (batch, ...), normalised; the
    answers are computed on their device, in `precision` (bfloat16: autocast), the counts where `dense` is. A latency budget is
    priced by MACs, which can be counted one layer at a time. InputError: outputs that are not (batch, classes), or a NaN."""
    twin, own = copy.deepcopy((dense, groups))
    twin.to(images.device)
    _use_batch_statistics(twin)
    example = images[:1].to(next(dense.parameters()).device)
    gauge = Gauge(Budget("macs" if budget.kind == "latency" else budget.kind, 1.0), dense, example)
    truth = _answers(twin, images, precision)
    found = {}
    for layer in own.layers:
        rows = own.rows(layer)
        order = torch.argsort(rows.double().norm(dim=1), stable=True).tolist()
        saved, measured = _saved(dense, groups, gauge, layer, order), {0: 0.0}
        parts = range(1, PARTS + 1) if saved > 0 else (PARTS,)  # where nothing is saved, nothing will be taken
        for lost in sorted({layer.channels * part // PARTS for part in parts} - {0}):
            zero_channels(own, [(layer.name, k) for k in order[:lost]])
            measured[lost] = divergence(_answers(twin, images, precision), truth)
            own.write(layer, rows)
        found[layer.name] = Sensitivity(_filled(measured, layer), saved)
    return found


def priced(scores: Mapping[str, Tensor], sensitivity: Mapping[str, Sensitivity]) -> dict[str, Tensor]:
    """Each score replaced by the price of its rank in its layer; channels of score 0 (zero already) keep it. A layer whose
    channels save nothing has infinite prices."""
    prices = {}
    for name, values in scores.items():
        known, count = sensitivity[name], len(values)
        steps = np.diff(lower_hull(known.errors))
        if known.saved > 0:
            steps = (steps + TIE * max(steps.max(), 1e-12)) * (1 + TIE * np.arange(count)) / known.saved
        else:
            steps = np.full(count, np.inf)
        price = torch.empty(count, dtype=torch.float64)
        price[torch.argsort(values, stable=True)] = torch.from_numpy(steps)
        prices[name] = torch.where(values > 0, price, 0.0)
    return prices


def lower_hull(errors: Sequence[float]) -> np.ndarray:
    """The largest convex function below the points (k, errors[k]), at the same k."""
    corners: list[int] = []
    for k, error in enumerate(errors):
        while len(corners) > 1:
            one, two = corners[-2:]
            if (errors[two] - errors[one]) * (k - one) < (error - errors[one]) * (two - one):
                break
            corners.pop()
        corners.append(k)
    return np.interp(np.arange(len(errors)), corners, [errors[k] for k in corners])


def _filled(measured: Mapping[int, float], layer: Layer) -> tuple[float, ...]:
    """Linear between the counts that were measured, never falling as channels go."""
    curve = np.interp(np.arange(layer.channels + 1), list(measured), list(measured.values()))
    if not np.isfinite(curve).all():
        raise InputError(f"the network's answers without channels of {layer.name} are not numbers; check its weights")
    return tuple(float(e) for e in np.maximum.accumulate(curve))


def _saved(dense: nn.Module, groups: ChannelGroups, gauge: Gauge, layer: Layer, order: Sequence[int]) -> float:
    half = max(1, layer.channels // 2)
    return (1.0 - share_left(dense, groups, gauge, [(layer.name, k) for k in order[:half]])) / half


def _use_batch_statistics(model: nn.Module) -> None:
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
            module.momentum = 0.0


@torch.no_grad()
def _answers(model: nn.Module, images: Tensor, precision: str) -> Tensor:
    reduced = precision == "bfloat16"
    if reduced and images.ndim == 4:
        images = images.contiguous(memory_format=torch.channels_last)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=reduced):
        answers = torch.cat([model(part) for part in images.split(IMAGES)])
    if answers.ndim != 2:
        raise InputError("--allocation error compares class scores (batch, classes); choose --allocation even or price")
    return answers
