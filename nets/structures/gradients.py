"""The gradients of a layer's groups, and which numbers of a group are filter weights and which scale a normalisation."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from nets.structures.slices import Layer, Span


def gradient_layer(layer: Layer) -> Layer:
    """The same groups over the gradients: ChannelGroups.rows and .write read and change .grad (zeros where there was none)."""
    spans = tuple(replace(s, parameter=nn.Parameter(_gradient(s.parameter), requires_grad=False)) for s in layer.spans)
    return replace(layer, spans=spans)


def filter_columns(layer: Layer) -> Tensor:
    """(n,) boolean: which numbers of a row are weights of a convolution or linear layer (not biases, gamma or beta)."""
    return _columns(layer, lambda span: span.parameter.dim() > 1)


def scale_columns(layer: Layer, model: nn.Module) -> tuple[Tensor, Tensor]:
    """(n,) boolean each: gammas and betas of batch normalisations; nothing is true for a layer without one."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    gammas, betas = {id(norm.weight) for norm in norms}, {id(norm.bias) for norm in norms}
    return (
        _columns(layer, lambda span: id(span.parameter) in gammas),
        _columns(layer, lambda span: id(span.parameter) in betas),
    )


def _columns(layer: Layer, belongs: Callable[[Span], bool]) -> Tensor:
    parts = [torch.full((width,), belongs(span)) for span, width in zip(layer.spans, layer.widths, strict=True)]
    return torch.cat(parts).to(layer.parameters[0].device)


def _gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
