"""Which channels are needed: needs flow backward from the outputs.

A channel is *needed* when something that stays reads it and cannot have it folded into a bias. The least such set is found,
and the rest has no influence on any output: exact, not heuristic.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from nets.flow.constants import find_constants, route
from nets.flow.graph import ChannelGraph, Op, Writer
from nets.flow.kinds import Kind
from nets.flow.taps import Channels, lost_input, pads_with_zeros, taps
from nets.shrink.grouped_convolutions import plan_groups

SMALL = 1e-3  # a constant to divide by should not be smaller, if there is a choice


@final
@dataclass(frozen=True)
class ChannelFlow:
    """channels: of each op's tensor; reads: (outputs, channels) boolean for each layer, where its weight is not zero;
    needed: (channels,) boolean for each space; present: the same for the channels that the space physically has, which are
    the needed ones and, where none is, a dummy."""

    graph: ChannelGraph
    channels: Mapping[str, Channels]
    reads: Mapping[str, Tensor]
    needed: Mapping[int, Tensor]
    present: Mapping[int, Tensor]

    def rows(self, writer: Writer) -> Tensor:
        """Indices of the output channels that this layer has to go on computing."""
        space = self.graph.space[writer.end]
        layer = self.graph.ops[writer.layer]
        if space in self.graph.pinned and _classifies(self.graph, layer):
            return torch.nonzero(self.needed[space]).flatten()  # a classifier keeps a class whose weights are zero
        return torch.nonzero(self.needed[space] & self.channels[writer.end].live).flatten()

    def kept(self, space: int) -> Tensor:
        """Indices of the channels the space physically has."""
        return torch.nonzero(self.present[space]).flatten()

    def uneven(self, writer: Writer, op: Op, layer: nn.Conv2d | nn.Linear) -> Tensor:
        """(rows,) boolean: does the row read constants that are not needed, and see less of them at the picture's border?"""
        rows, needed = self.rows(writer), self.needed[self.graph.space[op.inputs[0]]]
        if not pads_with_zeros(layer):
            return torch.zeros(len(rows), dtype=torch.bool)
        return (lost_input(layer, self.channels[op.inputs[0]], needed, rows) != 0).any(1)

    def layers(self) -> Iterator[tuple[Writer, Op, nn.Conv2d | nn.Linear]]:
        """Each convolution (other than depthwise) and linear layer."""
        for writer in self.graph.writers:
            op = self.graph.ops[writer.layer]
            layer = self.graph.modules[op.module or ""]
            if isinstance(layer, nn.Conv2d | nn.Linear):
                yield writer, op, layer


def follow_channels(graph: ChannelGraph) -> ChannelFlow:
    """Forward constants, then the least set of needed channels."""
    widths = {space: graph.width(space) for space in set(graph.space.values())}
    needed = {space: torch.full((width,), space in graph.pinned) for space, width in widths.items()}
    reads: dict[str, Tensor] = {}
    flow = ChannelFlow(graph, find_constants(graph), reads, needed, needed)
    for _, op, layer in flow.layers():
        reads[op.name] = (taps(layer, len(needed[graph.space[op.inputs[0]]])) != 0).any(2)
    while _read(flow) or _stand_in(flow) or _settle(flow):
        pass
    return ChannelFlow(graph, flow.channels, reads, needed, _place(graph, needed))


def _classifies(graph: ChannelGraph, op: Op) -> bool:
    return len(op.shape) == 2 and isinstance(graph.modules[op.module or ""], nn.Linear)


def _read(flow: ChannelFlow) -> bool:
    """One sweep: what stays needs the live channels it reads. True if anything was added."""
    graph, needed = flow.graph, flow.needed
    before = sum(int(n.sum()) for n in needed.values())
    for writer, op, _ in flow.layers():
        source, wanted = flow.channels[op.inputs[0]], needed[graph.space[op.inputs[0]]]
        wanted |= source.live & flow.reads[op.name][flow.rows(writer)].any(0)
    for op in graph.ops.values():
        if op.kind is Kind.ROUTE:
            sources, _ = route(graph.modules[op.module or ""], len(flow.channels[op.inputs[0]].live))
            read = needed[graph.space[op.name]] & flow.channels[op.name].live
            needed[graph.space[op.inputs[0]]][sources[read]] = True
    _join(graph, needed)
    return sum(int(n.sum()) for n in needed.values()) > before


def _join(graph: ChannelGraph, chosen: Mapping[int, Tensor]) -> None:
    """A channel is in a concatenation exactly when it is in the part it comes from: said until nothing is added."""
    added = True
    while added:
        added = False
        for tie in graph.ties:
            part = chosen[tie.part]
            whole = chosen[tie.whole][tie.offset : tie.offset + len(part)]
            if not torch.equal(part, whole):
                whole |= part
                part |= whole
                added = True


def _stand_in(flow: ChannelFlow) -> bool:
    """A constant c != 0 under zero padding is no bias; one channel that holds such a constant can stand for all of them.
    Need the one channel that serves most of the convolutions still without. True if there was any such convolution.
    (In groups no one channel could; there a Scatter in front supplies the constant.)"""
    votes: Counter[tuple[int, int]] = Counter()
    size: Counter[tuple[int, int]] = Counter()
    for writer, op, layer in flow.layers():
        space = flow.graph.space[op.inputs[0]]
        source, wanted = flow.channels[op.inputs[0]], flow.needed[space]
        if op.kind is Kind.GROUPED or not flow.uneven(writer, op, layer).any():
            continue
        magnitude = source.value.abs()
        fit = source.nonzero & ((magnitude >= SMALL) | (magnitude == magnitude.max()))
        if not (fit & wanted).any():
            places = [(space, int(k)) for k in torch.nonzero(fit).flatten()]
            votes.update(places)
            size.update({(space, k): float(magnitude[k]) for _, k in places})
    if votes:
        space, channel = max(votes, key=lambda place: (votes[place], size[place], place))
        flow.needed[space][channel] = True
    return bool(votes)


def _settle(flow: ChannelFlow) -> bool:
    """A grouped convolution that cannot shrink, between two Scatters of an earlier removal, keeps what pads its groups:
    to drop it would only put another Scatter there. True if anything was added."""
    added = False
    for writer, op, layer in flow.layers():
        rows = flow.rows(writer)
        if op.kind is not Kind.GROUPED or not len(rows) or not isinstance(layer, nn.Conv2d):
            continue
        graph, before = flow.graph, op.inputs[0]
        kept, uneven = flow.kept(graph.space[before]), flow.uneven(writer, op, layer)
        plan = plan_groups(flow.reads[op.name], layer.groups, rows, kept, uneven)
        if (plan.groups, plan.inputs, plan.outputs) != (layer.groups, layer.in_channels, layer.out_channels):
            continue
        behind = [reader.kind is Kind.ROUTE for reader in graph.readers(writer.end)]
        for name, padded in (
            (before, graph.ops[before].kind is Kind.ROUTE),
            (writer.end, bool(behind) and all(behind)),
        ):
            needed = flow.needed[graph.space[name]]
            if padded and not needed.all():
                needed |= True
                added = True
    return added


def _place(graph: ChannelGraph, needed: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
    """The channels that are physically there: no tensor has none, and concatenations agree with their parts."""
    present = {space: chosen.clone() for space, chosen in needed.items()}
    for chosen in present.values():
        if not chosen.any():
            chosen[0] = True
            _join(graph, present)
    return present
