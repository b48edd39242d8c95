"""One convolution or linear layer, with the normalisation that alone reads it, made as small as the flow allows."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from nets.flow.graph import Op, Writer
from nets.flow.kinds import Kind
from nets.flow.needs import ChannelFlow
from nets.flow.taps import lost_input, pads_with_zeros, taps
from nets.shrink.grouped_convolutions import ONE, plan_groups
from nets.shrink.narrower import narrow_conv, narrow_linear, narrow_norm
from nets.shrink.scatter import Gathered, Scattered, constant, scatter


@final
@dataclass(frozen=True)
class Narrowed:
    """module: what takes the layer's place; computed: the output channels it computes, ascending; right: those of them whose
    numbers are those of the old layer (the others only fill a group); moved: (computed,) what each lost of its bias."""

    module: nn.Module
    computed: Tensor
    right: Tensor
    moved: Tensor


def shrink_writer(model: nn.Module, flow: ChannelFlow, writer: Writer) -> int:
    """Edit `model`; returns how many output channels the layer computes from now on."""
    graph = flow.graph
    op, end = graph.ops[writer.layer], graph.ops[writer.end]
    layer, path, stream = graph.modules[str(op.module)], str(op.module), graph.space[writer.end]
    norm = None if writer.norm is None else graph.modules[str(end.module)]
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        raise TypeError(f"{path} is no convolution and no linear layer")
    rows, kept, values = flow.rows(writer), flow.kept(stream), flow.channels[writer.end].value
    if not len(rows):
        model.set_submodule(path, constant((values * flow.needed[stream])[kept], layer))
        if norm is not None:
            model.set_submodule(str(end.module), nn.Identity())
        return 0
    if op.kind is Kind.GROUPED and isinstance(layer, nn.Conv2d):
        new = _grouped(layer, flow, op, writer, norm)
    else:
        new = _plain(layer, flow, op, rows, norm)
    last, place = new.module, path
    if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm1d):
        model.set_submodule(path, new.module)
        place, last = str(end.module), norm
        if len(new.computed) < op.channels or (new.moved != 0).any():
            last = narrow_norm(norm, new.computed, new.moved if layer.bias is None else None)
    if not (torch.equal(new.computed, kept) and len(new.right) == len(kept)):
        sources = torch.full((op.channels,), -1)
        sources[new.right] = torch.searchsorted(new.computed, new.right)
        axis = 1 if op.axis == 1 else -1
        behind = scatter(sources[kept], values[kept], len(new.computed), 1, layer.weight, len(op.shape), axis)
        last = Scattered(last, behind)
    model.set_submodule(place, last)
    return len(rows)


def _plain(layer: nn.Conv2d | nn.Linear, flow: ChannelFlow, op: Op, rows: Tensor, norm: nn.Module | None) -> Narrowed:
    wanted, columns = flow.needed[flow.graph.space[op.inputs[0]]], flow.kept(flow.graph.space[op.inputs[0]])
    weight, moved = _folded(layer, flow, op, rows)
    if len(rows) == op.channels and bool(wanted.all()):
        return Narrowed(layer, rows, rows, moved)
    weight = (weight * wanted[None, :, None])[:, columns]  # a dummy channel is there for its shape only
    bias = _bias(layer, rows, moved, norm)
    smaller = narrow_conv(layer, weight, bias) if isinstance(layer, nn.Conv2d) else narrow_linear(layer, weight, bias)
    return Narrowed(smaller, rows, rows, moved)


def _grouped(layer: nn.Conv2d, flow: ChannelFlow, op: Op, writer: Writer, norm: nn.Module | None) -> Narrowed:
    """A Scatter in front brings the channels that are left into groups of equal size, unless they are so already; it also
    supplies each group with the constant 1, through which constants that are no bias are read."""
    wanted, columns = flow.needed[flow.graph.space[op.inputs[0]]], flow.kept(flow.graph.space[op.inputs[0]])
    rows, uneven = flow.rows(writer), flow.uneven(writer, op, layer)
    plan = plan_groups(flow.reads[op.name], layer.groups, rows, torch.nonzero(wanted).flatten(), uneven)
    shift = lost_input(layer, flow.channels[op.inputs[0]], wanted, plan.rows)
    moved = torch.zeros(len(plan.rows), dtype=torch.float64) if pads_with_zeros(layer) else shift.sum(1)
    same = plan.outputs == op.channels and torch.equal(plan.sources, torch.arange(len(wanted)))
    if same and bool(wanted.all()):
        return Narrowed(layer, plan.rows, plan.rows, moved)
    right = torch.isin(plan.rows, rows)
    weight = torch.cat([taps(layer, len(wanted)) * wanted[None, :, None], taps(layer, len(wanted))[:, :2] * 0], dim=1)
    weight = weight[plan.rows]
    weight[:, ONE] = shift.to(weight.dtype)  # the last two columns are those of NOTHING and ONE
    weight *= right[:, None, None]
    blocks = weight.view(plan.groups, -1, *weight.shape[1:])
    places = plan.sources.view(plan.groups, -1)
    parts = [block[:, place] for block, place in zip(blocks, places, strict=True)]
    smaller: nn.Module = narrow_conv(layer, torch.cat(parts), _bias(layer, plan.rows, moved, norm), plan.groups)
    if not torch.equal(plan.sources, columns):
        position = torch.full((len(wanted) + 2,), -1)
        position[columns] = torch.arange(len(columns))
        ones = (plan.sources == ONE).double()
        smaller = Gathered(scatter(position[plan.sources], ones, len(columns), 1, layer.weight), smaller)
    return Narrowed(smaller, plan.rows, plan.rows[right], moved)


def _folded(layer: nn.Conv2d | nn.Linear, flow: ChannelFlow, op: Op, rows: Tensor) -> tuple[Tensor, Tensor]:
    """(weight, moved): the weight (rows, channels, taps) with a stand-in for lost constants where those are no bias, and
    (rows,) float64 what the lost constants add to each output where they are."""
    source, wanted = flow.channels[op.inputs[0]], flow.needed[flow.graph.space[op.inputs[0]]]
    weight, shift = taps(layer, len(wanted))[rows], lost_input(layer, source, wanted, rows)
    if pads_with_zeros(layer) and (shift != 0).any():
        stand = int(torch.argmax(source.value.abs() * (wanted & source.nonzero)))
        weight[:, stand] += (shift / source.value[stand]).to(weight.dtype)
        shift = torch.zeros_like(shift)
    return weight, shift.sum(1)


def _bias(layer: nn.Conv2d | nn.Linear, rows: Tensor, moved: Tensor, norm: nn.Module | None) -> Tensor | None:
    """The bias of the rows, float64; without one what moved goes into the normalisation's mean, or becomes one."""
    if layer.bias is not None:
        return layer.bias.detach().double().cpu()[rows] + moved
    return moved if norm is None and bool((moved != 0).any()) else None
