"""New layers like old ones with fewer channels; no random number is drawn for them."""

import torch
from torch import Tensor, nn


def narrow_conv(layer: nn.Conv2d, weight: Tensor, bias: Tensor | None, groups: int = 1) -> nn.Conv2d:
    """A Conv2d like `layer` with weight (outputs, inputs of one group, taps) and bias, any dtype, on the CPU."""
    smaller = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        groups,
        bias is not None,
        layer.padding_mode,
        device="meta",
    )
    _fill(smaller, layer, weight.reshape(*weight.shape[:2], *layer.kernel_size), bias)
    return smaller


def narrow_linear(layer: nn.Linear, weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A Linear like `layer` with weight (outputs, channels, numbers of one channel) and bias."""
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


def narrow_norm(
    norm: nn.BatchNorm2d | nn.BatchNorm1d, kept: Tensor, shift: Tensor | None
) -> nn.BatchNorm2d | nn.BatchNorm1d:
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


@torch.no_grad()
def narrow_parameter(owner: nn.Module, name: str, axis: int, kept: Tensor) -> None:
    """Keep these entries of a parameter or buffer of `owner` along one axis."""
    tensor = getattr(owner, name)
    chosen = tensor.detach().index_select(axis, kept.to(tensor.device))
    if isinstance(tensor, nn.Parameter):
        setattr(owner, name, nn.Parameter(chosen, requires_grad=tensor.requires_grad))
    else:
        owner.register_buffer(name, chosen, persistent=name not in owner._non_persistent_buffers_set)
