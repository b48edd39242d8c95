"""Which channels are constant, and what: constants flow forward through the network.

A channel is *constant* when every number in it is the same whatever the input: a zero filter behind batch normalisation
gives beta - gamma mean / sqrt(var + eps), and so on through ReLU, additions, products, pooling. Exact, not heuristic.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nets.flow.graph import ChannelGraph, Op
from nets.flow.kinds import Kind, keeps_constants, map_value
from nets.flow.taps import Channels, lost_input, pads_with_zeros, taps
from nets.resnet import PadShortcut
from nets.shrink.scatter import Constant, Scatter


def find_constants(graph: ChannelGraph) -> Mapping[str, Channels]:
    """The channels of every op's tensor, by name."""
    channels: dict[str, Channels] = {}
    for op in graph.ops.values():
        channels[op.name] = _forward(op, graph, [channels[name] for name in op.inputs])
    return channels


def route(module: nn.Module, channels: int) -> tuple[Tensor, Tensor]:
    """Of a PadShortcut or Scatter with that many input channels: per output channel its source or -1, and its constant."""
    if isinstance(module, Scatter):
        return module.sources()
    if not isinstance(module, PadShortcut):
        raise TypeError(f"{type(module).__name__} routes no channels")
    sources = torch.full((module.before + channels + module.after,), -1)
    sources[module.before : module.before + channels] = torch.arange(channels)
    return sources, torch.zeros(len(sources), dtype=torch.float64)


def parameter(op: Op, graph: ChannelGraph) -> Tensor:
    """The tensor that a PARAMETER operation reads."""
    owner, _, name = str(op.node.target).rpartition(".")
    return getattr(graph.modules[owner], name).detach()


def _forward(op: Op, graph: ChannelGraph, inputs: list[Channels]) -> Channels:
    module = graph.modules.get(op.module) if op.module else None
    live, value = torch.ones(op.channels, dtype=torch.bool), torch.zeros(op.channels, dtype=torch.float64)
    if op.kind is Kind.ADD:
        live, value = inputs[0].live | inputs[-1].live, inputs[0].value + inputs[-1].value
    elif op.kind is Kind.MUL:
        live, value = _multiply(inputs[0], inputs[-1])
    elif op.kind is Kind.CAT:
        live, value = torch.cat([c.live for c in inputs]), torch.cat([c.value for c in inputs])
    elif op.kind is Kind.PARAMETER:
        live, value = ~live, parameter(op, graph).flatten().double().cpu()
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
    elif op.kind is Kind.DEPTHWISE and isinstance(module, nn.Conv2d):
        live, value = _filter_each(module, inputs[0])
    elif op.kind in (Kind.WRITE, Kind.GROUPED) and isinstance(module, nn.Conv2d | nn.Linear):
        live, value = _filter(module, inputs[0])
    live = live | ~torch.isfinite(value)  # an overflow is no constant to fold
    return Channels(live, torch.where(live, 0.0, value))


def _multiply(first: Channels, second: Channels) -> tuple[Tensor, Tensor]:
    """A product is constant where both are, or where one is the constant 0."""
    zero = (~first.live & (first.value == 0)) | (~second.live & (second.value == 0))
    return (first.live | second.live) & ~zero, torch.where(zero, 0.0, first.value * second.value)


def _normalise(module: nn.BatchNorm2d | nn.BatchNorm1d, source: Channels) -> tuple[Tensor, Tensor]:
    ones = torch.ones(module.num_features, dtype=torch.float64)
    gamma = ones if module.weight is None else module.weight.detach().double().cpu()
    beta = 0 * ones if module.bias is None else module.bias.detach().double().cpu()
    if module.running_mean is None or module.running_var is None:  # statistics of the batch at hand
        return gamma != 0, beta
    scale = gamma / torch.sqrt(module.running_var.double().cpu() + module.eps)
    shifted = scale * (source.value - module.running_mean.double().cpu()) + beta
    return source.live & (gamma != 0), torch.where(gamma != 0, shifted, beta)


def _filter(layer: nn.Conv2d | nn.Linear, source: Channels) -> tuple[Tensor, Tensor]:
    weight, every = taps(layer, len(source.live)), torch.arange(layer.weight.shape[0])
    reads = (weight[:, source.live] != 0).flatten(1).any(1)
    seen = lost_input(layer, source, torch.zeros_like(source.live), every)
    return _shifted(layer, reads, seen)


def _filter_each(layer: nn.Conv2d, source: Channels) -> tuple[Tensor, Tensor]:
    weight = layer.weight.detach().cpu().flatten(1).double()
    return _shifted(layer, (weight != 0).any(1) & source.live, weight * source.value[:, None])


def _shifted(layer: nn.Conv2d | nn.Linear, reads: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """`reads`: (outputs,) reads a live channel; `seen`: (outputs, taps) what constants put into it."""
    uneven = (seen != 0).any(1) if pads_with_zeros(layer) else torch.zeros_like(reads)
    total = seen.sum(1)
    return reads | uneven, total if layer.bias is None else layer.bias.detach().double().cpu() + total
