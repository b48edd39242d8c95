"""Replace each layer, in its own place, by the smaller one that the flow of channels allows, folding constants exactly."""

import torch
from torch import Tensor, nn

from nets.channel_flow import ChannelFlow, lost_input, pads_with_zeros, route, taps
from nets.channel_graph import Op, Writer
from nets.channel_kinds import Kind
from nets.scatter import Constant, Scattered, constant, scatter


@torch.no_grad()
def shrink_layers(model: nn.Module, flow: ChannelFlow) -> dict[str, int]:
    """Edit `model` (the one the flow was traced from). Returns output channels by layer path; 0 where nothing was left."""
    graph = flow.graph
    chained = {writer.norm for writer in graph.writers}
    after = {str(graph.ops[writer.layer].module): _shrink_writer(model, flow, writer) for writer in graph.writers}
    for op in graph.ops.values():
        space, path = graph.space[op.name], op.module or ""
        module, kept, idle = graph.modules.get(path), flow.kept(space), not flow.needed[space].any()
        if op.kind is Kind.ROUTE and module is not None:
            _shrink_route(model, flow, op, module)
        elif op.name in chained or (len(kept) == op.channels and not idle):
            continue
        elif op.kind is Kind.NORM and isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            model.set_submodule(path, nn.Identity() if idle else _norm(module, kept, None))
        elif op.kind is Kind.DEPTHWISE and isinstance(module, nn.Conv2d):
            bias = None if module.bias is None else module.bias.detach().cpu()[kept]
            fewer = _conv(module, taps(module, 1)[kept], bias, groups=len(kept))
            model.set_submodule(path, constant(torch.zeros(1), module) if idle else fewer)
            after[path] = 0 if idle else len(kept)
        elif op.kind is Kind.CONSTANT and isinstance(module, Constant) and len(kept) < op.channels:
            narrow = Constant(len(kept), module.span, module.stride).to(module.values)
            narrow.values.copy_(module.values[:, kept.to(module.values.device)])
            model.set_submodule(path, narrow)
    return after


def _shrink_writer(model: nn.Module, flow: ChannelFlow, writer: Writer) -> int:
    """One layer and its normalisation; returns how many output channels it computes from now on."""
    graph = flow.graph
    op, end = graph.ops[writer.layer], graph.ops[writer.end]
    layer, path = graph.modules[str(op.module)], str(op.module)
    norm = None if writer.norm is None else graph.modules[str(end.module)]
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        raise TypeError(f"{path} is no convolution and no linear layer")
    source, wanted = flow.channels[op.inputs[0]], flow.needed[graph.space[op.inputs[0]]]
    columns, rows, stream = flow.kept(graph.space[op.inputs[0]]), flow.rows(writer), graph.space[writer.end]
    kept, read = flow.kept(stream), bool(flow.needed[stream].any())
    if not len(rows):
        model.set_submodule(path, constant(flow.channels[writer.end].value[kept] * read, layer))
        if norm is not None:
            model.set_submodule(str(end.module), nn.Identity())
        return 0
    weight, shift = taps(layer, len(wanted))[rows], lost_input(layer, source, wanted, rows)
    if pads_with_zeros(layer) and (shift != 0).any():
        stand = int(torch.argmax(source.value.abs() * (wanted & source.nonzero)))
        weight[:, stand] += (shift / source.value[stand]).to(weight.dtype)
        shift = torch.zeros_like(shift)
    weight = weight[:, columns] * bool(wanted.any())  # a dummy channel is there for its shape only
    moved = shift.sum(1)
    if len(rows) < op.channels or len(columns) < len(wanted) or not wanted.any():
        bias = None if layer.bias is None else layer.bias.double().cpu()[rows] + moved
        if layer.bias is None and norm is None and (moved != 0).any():
            bias = moved
        smaller: nn.Module = (
            _conv(layer, weight, bias) if isinstance(layer, nn.Conv2d) else _linear(layer, weight, bias)
        )
    else:
        smaller = layer
    last, place = smaller, path
    if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm1d):
        model.set_submodule(path, smaller)
        place, last = str(end.module), norm
        if len(rows) < op.channels or (moved != 0).any():
            last = _norm(norm, rows, moved if layer.bias is None else None)
    if not torch.equal(rows, kept):
        sources = torch.full((op.channels,), -1)
        sources[rows] = torch.arange(len(rows))
        values, ndim = flow.channels[writer.end].value, 2 if isinstance(layer, nn.Linear) else 4
        last = Scattered(last, scatter(sources[kept], values[kept], len(rows), 1, layer.weight, ndim))
    model.set_submodule(place, last)
    return len(rows)


def _shrink_route(model: nn.Module, flow: ChannelFlow, op: Op, module: nn.Module) -> None:
    """A PadShortcut or Scatter between two spaces of which one got narrower."""
    inside, outside = flow.graph.space[op.inputs[0]], flow.graph.space[op.name]
    enter, leave = flow.kept(inside), flow.kept(outside)
    width = len(flow.needed[inside])
    if (len(enter), len(leave)) == (width, op.channels):
        return
    sources, _ = route(module, width)
    position = torch.full((width,), -1)
    position[enter] = torch.arange(len(enter))
    reads = flow.channels[op.name].live & flow.needed[outside]
    moved = torch.where(reads, position[sources.clamp(min=0)], -1)
    like = next((t for t in (*module.buffers(), *model.parameters()) if t.is_floating_point()), torch.zeros(()))
    values = flow.channels[op.name].value * flow.needed[outside]
    stride = int(getattr(module, "stride", 1))
    ndim = 4 if not hasattr(module, "values") else module.values.dim()
    model.set_submodule(str(op.module), scatter(moved[leave], values[leave], len(enter), stride, like, ndim))


def _conv(layer: nn.Conv2d, weight: Tensor, bias: Tensor | None, groups: int = 1) -> nn.Conv2d:
    """A Conv2d like `layer` with weight (outputs, inputs, taps) and bias, float64 on the CPU."""
    smaller = nn.Conv2d(
        weight.shape[1] * groups if groups > 1 else weight.shape[1],
        weight.shape[0],
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        groups,
        bias is not None,
        layer.padding_mode,
        device="meta",  # so that no random number is drawn
    )
    _fill(smaller, layer, weight.reshape(*weight.shape[:2], *layer.kernel_size), bias)
    return smaller


def _linear(layer: nn.Linear, weight: Tensor, bias: Tensor | None) -> nn.Linear:
    weight = weight.flatten(1)
    smaller = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    _fill(smaller, layer, weight, bias)
    return smaller


def _fill(smaller: nn.Conv2d | nn.Linear, layer: nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor | None) -> None:
    weight = weight.to(device=layer.weight.device, dtype=layer.weight.dtype)
    if weight.dim() == 4 and not layer.weight.is_contiguous():  # the only other layout convolutions use
        weight = weight.contiguous(memory_format=torch.channels_last)
    smaller.weight = nn.Parameter(weight, requires_grad=layer.weight.requires_grad)
    if bias is not None:
        learns = layer.weight.requires_grad if layer.bias is None else layer.bias.requires_grad
        smaller.bias = nn.Parameter(bias.to(device=layer.weight.device, dtype=layer.weight.dtype), requires_grad=learns)


def _norm(norm: nn.BatchNorm2d | nn.BatchNorm1d, kept: Tensor, shift: Tensor | None) -> nn.BatchNorm2d | nn.BatchNorm1d:
    """The kept channels of a normalisation; `shift` is what its input has lost (kept channels), taken from the mean."""
    tracks = norm.running_mean is not None
    smaller = type(norm)(len(kept), norm.eps, norm.momentum, norm.affine, tracks, device="meta")
    for name, tensor in [*norm.named_parameters(), *norm.named_buffers()]:
        chosen = tensor.detach().clone()
        if tensor.dim():
            chosen = tensor.detach()[kept.to(tensor.device)].clone()
        if name == "running_mean" and shift is not None:
            chosen = (chosen.double() - shift.to(chosen.device)).to(tensor.dtype)
        if isinstance(tensor, nn.Parameter):
            setattr(smaller, name, nn.Parameter(chosen, requires_grad=tensor.requires_grad))
        else:
            smaller.register_buffer(name, chosen)
    return smaller
