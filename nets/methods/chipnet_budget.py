"""What ChipNet's gates spend, as a share of all normalised convolutions: channels, volume of activations, parameters or MACs.

Source: Tiwari, Bamba, Chavan, Gupta, ICLR 2021 (public code). With S the sum of a layer's s, n its channels, A its output
pixels, k^2 its kernel, S_prev the sum over the channels that it reads:

    channels sum S / sum n        volume sum A S / sum A n        params sum k^2 S S_prev / full        macs sum A S (k^2
    S_prev + 1) / full

S_prev: the nearest gates before the layer; behind additions a channel is there if any summand has it, 1 - prod (1 - s);
channels that no gate governs (the image, padded shortcuts, layers that a run excludes) count whole. In a convolution of g
groups S_prev is divided by g.
Taken as given: the paper's own treatment of additions.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from nets.flow.graph import ChannelGraph, build_graph
from nets.flow.kinds import Kind
from nets.groups import ChannelGroups, channel_groups
from perspective.errors import InputError

PASSED = (Kind.MAP, Kind.POOL)


@final
@dataclass(frozen=True)
class Counted:
    """A convolution, gated or not: channels, output pixels, kernel numbers k^2, input channels, groups, and the layers whose
    gates govern its inputs (empty: none does)."""

    name: str
    channels: int
    area: int
    kernel: int
    inputs: int
    groups: int
    before: tuple[str, ...]


def count_layers(model: nn.Module, groups: ChannelGroups, example: Tensor) -> tuple[Counted, ...]:
    """One entry for each convolution of the network with its own batch normalisation, in a layer of the groups or not;
    InputError where a layer of the groups is none."""
    device = next(model.parameters()).device
    graph = build_graph(copy.deepcopy(model).eval(), (example[:1].to(device),))
    gated, every = {layer.name for layer in groups.layers}, channel_groups(model, example)
    norms = {layer.bn: layer.name for layer in every.layers}
    counted = []
    for layer in every.layers:
        conv = graph.modules.get(layer.name)
        op = next((op for op in graph.ops.values() if op.module == layer.name), None)
        if op is None or not isinstance(conv, nn.Conv2d):
            if layer.name not in gated:
                continue
            raise InputError(
                f'{layer.name} is no convolution, so chipnet has no gate for it; add --exclude "{layer.name}"'
            )
        before = _governors(graph, op.inputs[0], norms)
        if any(every[name].channels != conv.in_channels for name in before):
            before = ()
        kernel, area = conv.kernel_size[0] * conv.kernel_size[1], op.shape[2] * op.shape[3]
        counted.append(
            Counted(layer.name, layer.channels, area, kernel, conv.in_channels, conv.groups, tuple(sorted(before)))
        )
    return tuple(counted)


def spent(kind: str, layers: tuple[Counted, ...], s: Mapping[str, Tensor]) -> Tensor:
    """V of the gates s in [0, 1], by layer; a layer without any is whole. Can be differentiated; 1 where all are 1."""
    like = next(iter(s.values()), torch.ones(()))
    full = {x.name: like.new_ones(x.channels) for x in layers}
    full |= {name: torch.ones_like(gates) for name, gates in s.items()}  # behind a layer that is not counted here
    return _count(kind, layers, full | dict(s)) / _count(kind, layers, full)


def _count(kind: str, layers: tuple[Counted, ...], s: Mapping[str, Tensor]) -> Tensor:
    if kind == "channels":
        return torch.stack([s[x.name].sum() for x in layers]).sum()
    if kind == "volume":
        return torch.stack([x.area * s[x.name].sum() for x in layers]).sum()
    if kind == "params":
        return torch.stack([x.kernel * s[x.name].sum() * _read(x, s) for x in layers]).sum()
    if kind == "macs":
        return torch.stack([x.area * s[x.name].sum() * (x.kernel * _read(x, s) + 1) for x in layers]).sum()
    raise InputError(f"chipnet has no formula for a budget of {kind}; take macs, params, channels or volume")


def _read(layer: Counted, s: Mapping[str, Tensor]) -> Tensor | float:
    """S_prev of one group."""
    if not layer.before:
        return layer.inputs / layer.groups
    absent = torch.stack([1 - s[name] for name in layer.before]).prod(0)
    return (1 - absent).sum() / layer.groups


def _governors(graph: ChannelGraph, name: str, norms: Mapping[str | None, str]) -> set[str]:
    """The layers whose gates stand between their convolution and this tensor; empty where a part of it has none."""
    op = graph.ops[name]
    if op.kind is Kind.NORM and op.module in norms:
        return {norms[op.module]}
    if op.kind in PASSED and len(op.inputs) == 1 and graph.ops[op.inputs[0]].channels == op.channels:
        return _governors(graph, op.inputs[0], norms)
    if op.kind is Kind.ADD and len(op.inputs) > 1:
        parts = [_governors(graph, part, norms) for part in op.inputs]
        return set().union(*parts) if all(parts) else set()
    return set()
