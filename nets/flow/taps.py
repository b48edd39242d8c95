"""A layer's weight as outputs x input channels x taps, and what constants put through it."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn


@final
@dataclass(frozen=True)
class Channels:
    """live: (channels,) boolean, False = constant; value: (channels,) float64, the constant (0 where live)."""

    live: Tensor
    value: Tensor

    @property
    def nonzero(self) -> Tensor:
        """(channels,) boolean: constant and not zero."""
        return ~self.live & (self.value != 0)


def taps(layer: nn.Conv2d | nn.Linear, channels: int) -> Tensor:
    """The weight as (outputs, channels, numbers that read one channel), on the CPU; in groups, with the zeros between them."""
    weight = layer.weight.detach().cpu()
    groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
    if groups == 1:
        return weight.reshape(weight.shape[0], channels, -1)
    weight = weight.flatten(2)
    whole = weight.new_zeros(groups, weight.shape[0] // groups, groups, *weight.shape[1:])
    each = torch.arange(groups)
    whole[each, :, each] = weight.view(groups, -1, *weight.shape[1:])
    return whole.view(weight.shape[0], channels, -1)


def lost_input(layer: nn.Conv2d | nn.Linear, source: Channels, wanted: Tensor, rows: Tensor) -> Tensor:
    """What the outputs `rows` receive through each tap from the constants that are not wanted: (rows, taps), float64."""
    lost = source.nonzero & ~wanted
    weight = taps(layer, len(wanted))
    if not lost.any():
        return torch.zeros((len(rows), weight.shape[2]), dtype=torch.float64)
    return torch.einsum("ocp,c->op", weight[rows][:, lost].double(), source.value[lost])


def pads_with_zeros(layer: nn.Conv2d | nn.Linear) -> bool:
    """Does a constant that is not zero look different at the border of the picture?"""
    if isinstance(layer, nn.Linear) or layer.padding_mode != "zeros":
        return False
    if isinstance(layer.padding, str):
        return layer.padding == "same" and max(layer.kernel_size) > 1
    return any(layer.padding)
