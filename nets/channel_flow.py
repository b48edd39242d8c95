"""Which channels carry information and which of those are read: constants flow forward, needs flow backward.

Forward: a channel is *constant* when every number in it is the same whatever the input (a zero filter behind batch
normalisation gives beta - gamma mean / sqrt(var + eps), and so on through ReLU, additions, pooling). Backward: a channel is
*needed* when something that stays reads it and cannot have it folded into a bias. Both are exact, not heuristic.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from nets.channel_graph import ChannelGraph, Op, Writer
from nets.channel_kinds import Kind, keeps_constants, map_value
from nets.resnet import PadShortcut
from nets.scatter import Constant, Scatter

SMALL = 1e-3  # a constant to divide by should not be smaller, if there is a choice


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


@final
@dataclass(frozen=True)
class ChannelFlow:
    """channels: of each op's tensor; needed: (channels,) boolean for each space."""

    graph: ChannelGraph
    channels: Mapping[str, Channels]
    needed: Mapping[int, Tensor]

    def rows(self, writer: Writer) -> Tensor:
        """Indices of the output channels that this layer has to go on computing."""
        return torch.nonzero(_computed(self.graph, self.channels, self.needed, writer)).flatten()

    def kept(self, space: int) -> Tensor:
        """Indices of the channels the space physically has: the needed ones, or channel 0 as a dummy where none is."""
        kept = torch.nonzero(self.needed[space]).flatten()
        return kept if len(kept) else torch.zeros(1, dtype=torch.int64)


def follow_channels(graph: ChannelGraph) -> ChannelFlow:
    """Forward constants, then the least set of needed channels."""
    channels: dict[str, Channels] = {}
    for op in graph.ops.values():
        channels[op.name] = _forward(op, graph, [channels[name] for name in op.inputs])
    needed = {space: torch.zeros(graph.width(space), dtype=torch.bool) for space in set(graph.space.values())}
    for space in graph.pinned:
        needed[space] |= True
    while _read(graph, channels, needed) or _stand_in(graph, channels, needed):
        pass
    return ChannelFlow(graph, channels, needed)


def taps(layer: nn.Conv2d | nn.Linear, channels: int) -> Tensor:
    """The weight as (outputs, channels, numbers that read one channel), on the CPU."""
    return layer.weight.detach().cpu().reshape(layer.weight.shape[0], channels, -1)


def lost_input(layer: nn.Conv2d | nn.Linear, source: Channels, wanted: Tensor, rows: Tensor) -> Tensor:
    """What the outputs `rows` receive through each tap from the constants that are not wanted: (rows, taps), float64."""
    lost = source.nonzero & ~wanted
    return torch.einsum("ocp,c->op", taps(layer, len(wanted))[rows][:, lost].double(), source.value[lost])


def pads_with_zeros(layer: nn.Conv2d | nn.Linear) -> bool:
    """Does a constant that is not zero look different at the border of the picture?"""
    if isinstance(layer, nn.Linear) or layer.padding_mode != "zeros":
        return False
    if isinstance(layer.padding, str):
        return layer.padding == "same" and max(layer.kernel_size) > 1
    return any(layer.padding)


def route(module: nn.Module, channels: int) -> tuple[Tensor, Tensor]:
    """Of a PadShortcut or Scatter with that many input channels: per output channel its source or -1, and its constant."""
    if isinstance(module, Scatter):
        return module.sources()
    if not isinstance(module, PadShortcut):
        raise TypeError(f"{type(module).__name__} routes no channels")
    sources = torch.full((module.before + channels + module.after,), -1)
    sources[module.before : module.before + channels] = torch.arange(channels)
    return sources, torch.zeros(len(sources), dtype=torch.float64)


def _forward(op: Op, graph: ChannelGraph, inputs: list[Channels]) -> Channels:
    module = graph.modules.get(op.module) if op.module else None
    live, value = torch.ones(op.channels, dtype=torch.bool), torch.zeros(op.channels, dtype=torch.float64)
    if op.kind is Kind.ADD:
        live, value = inputs[0].live | inputs[-1].live, inputs[0].value + inputs[-1].value
    elif op.kind is Kind.MAP:
        live, value = inputs[0].live, map_value(op.node, graph.modules, inputs[0].value)
    elif op.kind is Kind.POOL:
        live, value = inputs[0].live, inputs[0].value
        if not keeps_constants(op.node, graph.modules):
            live = live | inputs[0].nonzero
    elif op.kind is Kind.CONSTANT and isinstance(module, Constant):
        live, value = ~live, module.values.flatten().double().cpu()
    elif op.kind is Kind.ROUTE and module is not None:
        sources, value = route(module, len(inputs[0].live))
        inside = sources >= 0
        live = inside & inputs[0].live[sources.clamp(min=0)]
        value = torch.where(inside, inputs[0].value[sources.clamp(min=0)], value)
    elif op.kind is Kind.NORM and isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
        live, value = _normalise(module, inputs[0])
    elif op.kind in (Kind.WRITE, Kind.DEPTHWISE) and isinstance(module, nn.Conv2d | nn.Linear):
        live, value = _filter(module, inputs[0], depthwise=op.kind is Kind.DEPTHWISE)
    live = live | ~torch.isfinite(value)  # an overflow is no constant to fold
    return Channels(live, torch.where(live, 0.0, value))


def _normalise(module: nn.BatchNorm2d | nn.BatchNorm1d, source: Channels) -> tuple[Tensor, Tensor]:
    ones = torch.ones(module.num_features, dtype=torch.float64)
    gamma = ones if module.weight is None else module.weight.detach().double().cpu()
    beta = 0 * ones if module.bias is None else module.bias.detach().double().cpu()
    if module.running_mean is None or module.running_var is None:  # statistics of the batch at hand
        return gamma != 0, beta
    scale = gamma / torch.sqrt(module.running_var.double().cpu() + module.eps)
    shifted = scale * (source.value - module.running_mean.double().cpu()) + beta
    return source.live & (gamma != 0), torch.where(gamma != 0, shifted, beta)


def _filter(layer: nn.Conv2d | nn.Linear, source: Channels, depthwise: bool) -> tuple[Tensor, Tensor]:
    bias = (
        torch.zeros(layer.weight.shape[0], dtype=torch.float64)
        if layer.bias is None
        else layer.bias.detach().double().cpu()
    )
    if depthwise:
        weight = taps(layer, 1)[:, 0].double()
        reads, seen = (weight != 0).any(1) & source.live, weight * source.value[:, None]
    else:
        weight, every = taps(layer, len(source.live)), torch.arange(layer.weight.shape[0])
        reads = (weight[:, source.live] != 0).flatten(1).any(1)
        seen = lost_input(layer, source, torch.zeros_like(source.live), every)
    uneven = (seen != 0).any(1) if pads_with_zeros(layer) else torch.zeros_like(reads)
    return reads | uneven, bias + seen.sum(1)


def _computed(
    graph: ChannelGraph, channels: Mapping[str, Channels], needed: Mapping[int, Tensor], writer: Writer
) -> Tensor:
    space = graph.space[writer.end]
    if space in graph.pinned and isinstance(graph.modules[graph.ops[writer.layer].module or ""], nn.Linear):
        return needed[space]  # a classifier keeps a class whose weights are zero
    return needed[space] & channels[writer.end].live


def _read(graph: ChannelGraph, channels: Mapping[str, Channels], needed: Mapping[int, Tensor]) -> bool:
    """One sweep: what stays needs the live channels it reads. True if anything was added."""
    before = sum(int(n.sum()) for n in needed.values())
    for op, layer, rows in _layers(graph, channels, needed):
        source, wanted = channels[op.inputs[0]], needed[graph.space[op.inputs[0]]]
        asked = torch.nonzero(source.live & ~wanted).flatten()
        weight = taps(layer, len(wanted))[rows][:, asked]
        wanted[asked] = (weight != 0).any(2).any(0)
    for op in graph.ops.values():
        if op.kind is Kind.ROUTE:
            sources, _ = route(graph.modules[op.module or ""], len(channels[op.inputs[0]].live))
            read = needed[graph.space[op.name]] & channels[op.name].live
            needed[graph.space[op.inputs[0]]][sources[read]] = True
    return sum(int(n.sum()) for n in needed.values()) > before


def _stand_in(graph: ChannelGraph, channels: Mapping[str, Channels], needed: Mapping[int, Tensor]) -> bool:
    """A constant c != 0 under zero padding is no bias; one channel that holds such a constant can stand for all of them.
    Need the one channel that serves most of the convolutions still without. True if there was any such convolution."""
    votes: Counter[tuple[int, int]] = Counter()
    size: Counter[tuple[int, int]] = Counter()
    for op, layer, rows in _layers(graph, channels, needed):
        space = graph.space[op.inputs[0]]
        source, wanted = channels[op.inputs[0]], needed[space]
        if not pads_with_zeros(layer) or not (lost_input(layer, source, wanted, rows) != 0).any():
            continue
        magnitude = source.value.abs()
        fit = source.nonzero & ((magnitude >= SMALL) | (magnitude == magnitude.max()))
        if not (fit & wanted).any():
            places = [(space, int(k)) for k in torch.nonzero(fit).flatten()]
            votes.update(places)
            size.update({(space, k): float(magnitude[k]) for _, k in places})
    if votes:
        space, channel = max(votes, key=lambda place: (votes[place], size[place], place))
        needed[space][channel] = True
    return bool(votes)


def _layers(
    graph: ChannelGraph, channels: Mapping[str, Channels], needed: Mapping[int, Tensor]
) -> Iterator[tuple[Op, nn.Conv2d | nn.Linear, Tensor]]:
    """Each convolution and linear layer, with the output channels it has to go on computing."""
    for writer in graph.writers:
        op = graph.ops[writer.layer]
        layer = graph.modules[op.module or ""]
        if isinstance(layer, nn.Conv2d | nn.Linear):
            yield op, layer, torch.nonzero(_computed(graph, channels, needed, writer)).flatten()
