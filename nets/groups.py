"""The groups of a network: all numbers that are pruned together, one group a channel.

coupled=False: the paper's groups, each layer for itself: filter, bias and (gamma, beta) of a convolution (filters.py; a
channel that an addition ties to others can be zeroed, but is only removed where nothing else uses it), rows of hidden
Linear layers, and heads (hidden.py).
coupled=True: all slices that die together over additions, products, grouped convolutions and concatenations (coupled.py),
and the same hidden Linear layers and heads. The files named are those of nets/structures/.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from nets.structures.coupled import coupled_groups
from nets.structures.filters import filter_groups
from nets.structures.hidden import hidden_groups
from nets.structures.slices import Layer, Span, refuse_overlap
from perspective.errors import InputError

__all__ = ["ChannelGroups", "Layer", "Span", "channel_groups"]


@final
@dataclass(frozen=True)
class ChannelGroups:
    """All groups of one network. No number of the network lies in two of them.

    skipped  (layer, reason) for each layer that writes channels and has some of them in no group
    """

    layers: tuple[Layer, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def total(self) -> int:
        """The number of grouped numbers, N = sum of n_g over all groups."""
        return sum(layer.channels * layer.n for layer in self.layers)

    def __getitem__(self, name: str) -> Layer:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise InputError(f"no layer {name!r}; the layers are {', '.join(layer.name for layer in self.layers)}")

    def rows(self, layer: Layer) -> Tensor:
        """A copy of the layer's groups, one a row: (channels, n)."""
        return torch.cat([span.read(layer.channels) for span in layer.spans], dim=1)

    @torch.no_grad()
    def write(self, layer: Layer, rows: Tensor) -> None:
        """Put (channels, n) rows back into the network's parameters."""
        if rows.shape != (layer.channels, layer.n):
            raise InputError(f"{layer.name} has rows of shape {(layer.channels, layer.n)}, not {tuple(rows.shape)}")
        parts = rows.split(layer.widths, dim=1)
        for span, part in zip(layer.spans, parts, strict=True):
            span.write(part)

    def alive(self, layer: Layer) -> Tensor:
        """(channels,) boolean: has the group any number that is not zero?"""
        alive = torch.zeros(layer.channels, dtype=torch.bool, device=layer.parameters[0].device)
        for span in layer.spans:
            alive |= (span.read(layer.channels) != 0).any(dim=1)
        return alive

    def surviving(self) -> dict[str, int]:
        """Per layer, the number of channels that are not wholly zero."""
        return {layer.name: int(self.alive(layer).sum()) for layer in self.layers}

    def left_whole(self) -> list[str]:
        """A sentence for each reason of `skipped`, with its layers."""
        reasons = dict.fromkeys(reason for _, reason in self.skipped)
        return [
            f"left whole: {', '.join(x for x, why in self.skipped if why == reason)}: {reason}" for reason in reasons
        ]

    def snapshot(self) -> Mapping[str, Tensor]:
        """A copy of all rows by layer name."""
        return {layer.name: self.rows(layer) for layer in self.layers}


def channel_groups(
    model: nn.Module, example_inputs: Tensor | tuple[Tensor, ...], coupled: bool = False
) -> ChannelGroups:
    """The groups of `model`; `example_inputs` is any batch it accepts (a tuple for several arguments). The network is
    not changed.

    Raises InputError for a network without a group, where two layers share one parameter, and, for coupled=True, where
    the network cannot be followed; it names the module and why.
    """
    hidden, left_out = hidden_groups(model, example_inputs)
    if coupled:
        known = frozenset(name for layer in hidden for name in layer.members)
        ties, others = coupled_groups(model, example_inputs, known)
        skipped = {**dict(left_out), **dict(others)}
    else:
        ties, skipped = filter_groups(model, example_inputs), dict(left_out)
    layers = (*ties, *hidden)
    if not layers:
        reasons = "".join(f"; {name}: {reason}" for name, reason in list(skipped.items())[:3])
        raise InputError(
            "the network has no Conv2d that its forward pass calls, hidden Linear layer or attention head "
            f"{'that coupled groups can take' if coupled else 'to take'}; there is no channel to prune{reasons}"
        )
    refuse_overlap(layers)
    return ChannelGroups(layers, tuple(skipped.items()))
