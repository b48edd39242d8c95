"""Replace each layer, in its own place, by the smaller one that the flow of channels allows, folding constants exactly."""

import torch
from torch import Tensor, nn

from nets.flow.constants import route
from nets.flow.graph import Op
from nets.flow.kinds import Kind
from nets.flow.needs import ChannelFlow
from nets.shrink.heads import shrink_heads
from nets.shrink.narrower import narrow_conv, narrow_norm, narrow_parameter
from nets.shrink.scatter import Constant, constant, scatter
from nets.shrink.writers import shrink_writer


@torch.no_grad()
def shrink_layers(model: nn.Module, flow: ChannelFlow) -> dict[str, int]:
    """Edit `model` (the one the flow was traced from). Returns output channels (of attention: heads) by path; 0 where
    nothing was left."""
    graph = flow.graph
    chained = {writer.norm for writer in graph.writers}
    after = {str(graph.ops[writer.layer].module): shrink_writer(model, flow, writer) for writer in graph.writers}
    for op in graph.ops.values():
        space, path = graph.space[op.name], op.module or ""
        module, kept, idle = graph.modules.get(path), flow.kept(space), not flow.needed[space].any()
        if op.kind is Kind.ROUTE and module is not None:
            _shrink_route(model, flow, op, module)
        elif op.name in chained or (len(kept) == op.channels and not idle):
            continue
        elif op.kind is Kind.PARAMETER and len(kept) < op.channels:
            owner, _, name = str(op.node.target).rpartition(".")
            narrow_parameter(model.get_submodule(owner), name, op.axis, kept)
        elif op.kind is Kind.NORM and isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            model.set_submodule(path, nn.Identity() if idle else narrow_norm(module, kept, None))
        elif op.kind is Kind.DEPTHWISE and isinstance(module, nn.Conv2d):
            bias = None if module.bias is None else module.bias.detach().cpu()[kept]
            fewer = narrow_conv(module, module.weight.detach().cpu().flatten(2)[kept], bias, groups=len(kept))
            model.set_submodule(path, constant(torch.zeros(1), module) if idle else fewer)
            after[path] = 0 if idle else len(kept)
        elif op.kind is Kind.CONSTANT and isinstance(module, Constant) and len(kept) < op.channels:
            narrow = Constant(len(kept), module.span, module.stride).to(module.values)
            narrow.values.copy_(module.values[:, kept.to(module.values.device)])
            model.set_submodule(path, narrow)
    return after | shrink_heads(model, graph.attentions)


def _shrink_route(model: nn.Module, flow: ChannelFlow, op: Op, module: nn.Module) -> None:
    """A PadShortcut or Scatter between two spaces of which one got narrower."""
    inside, outside = flow.graph.space[op.inputs[0]], flow.graph.space[op.name]
    enter, leave = flow.kept(inside), flow.kept(outside)
    width = len(flow.needed[inside])
    if (len(enter), len(leave)) == (width, op.channels) and bool(flow.needed[inside].all()):
        return  # the same sizes with a channel that is not needed: all that is left of the input is a dummy
    sources, _ = route(module, width)
    position = torch.full((width,), -1)
    position[enter] = torch.arange(len(enter))
    reads = flow.channels[op.name].live & flow.needed[outside]
    moved = torch.where(reads, position[sources.clamp(min=0)], -1)
    like = next((t for t in (*module.buffers(), *model.parameters()) if t.is_floating_point()), torch.zeros(()))
    values: Tensor = flow.channels[op.name].value * flow.needed[outside]
    stride, axis = int(getattr(module, "stride", 1)), int(getattr(module, "axis", 1))
    smaller = scatter(moved[leave], values[leave], len(enter), stride, like, len(op.shape), axis)
    model.set_submodule(str(op.module), smaller)
