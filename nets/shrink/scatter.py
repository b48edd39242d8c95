"""The tiny modules a removed channel leaves behind where the tensor's width is still expected.

Scatter   writes the channels that are left into the stream's width and a constant into every other channel.
Constant  stands for a convolution or linear layer of which nothing is left: the same numbers at every position.
"""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn


@final
class Scatter(nn.Module):
    """(batch, in_channels, ...) -> (batch, out_channels, ...): output k is input channel `index[k]`, or, where
    index[k] >= in_channels, the constant `values[index[k] - in_channels]`; a stride subsamples rows and columns.

    `axis` is where the channels lie: 1, or -1 behind a linear layer on (batch, positions, features).
    """

    def __init__(
        self, in_channels: int, out_channels: int, constants: int, ndim: int = 4, stride: int = 1, axis: int = 1
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.stride, self.axis = in_channels, out_channels, stride, axis
        shape = [1] * ndim
        shape[axis] = constants
        self.register_buffer("index", torch.zeros(out_channels, dtype=torch.int64))
        self.register_buffer("values", torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.values.numel():
            fill = torch.zeros_like(x.narrow(self.axis, 0, 1)) + self.values.to(x.dtype)
            x = torch.cat([x, fill], dim=self.axis)
        return x.index_select(self.axis, self.index)

    def sources(self) -> tuple[Tensor, Tensor]:
        """Per output channel, the input channel or -1, and the constant written there (0 where there is an input)."""
        inside = self.index < self.in_channels
        constants = torch.cat([self.values.new_zeros(self.in_channels), self.values.flatten()])
        return torch.where(inside, self.index, -1).cpu(), constants[self.index].double().cpu()

    def extra_repr(self) -> str:
        where = "" if self.axis == 1 else f", axis={self.axis}"
        return f"{self.in_channels}, {self.out_channels}, constants={self.values.numel()}, stride={self.stride}{where}"


@final
class Constant(nn.Module):
    """(batch, channels, height, width) -> (batch, out_channels, height', width') filled with `values`, channel by channel.

    height' = (height - span[0]) // stride[0] + 1, the size the removed convolution had given (span = its reach minus its
    padding); without span and stride it stands for a linear layer, (batch, ..., features) -> (batch, ..., out_channels).
    """

    def __init__(
        self, out_channels: int, span: Sequence[int] | None = None, stride: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.span, self.stride = (None, None) if span is None or stride is None else (tuple(span), tuple(stride))
        self.register_buffer("values", torch.zeros((1, out_channels) if self.span is None else (1, out_channels, 1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        if self.span is None or self.stride is None:
            return x.new_zeros((*x.shape[:-1], 1)) + self.values.to(x.dtype)
        height = (x.shape[2] - self.span[0]) // self.stride[0] + 1
        width = (x.shape[3] - self.span[1]) // self.stride[1] + 1
        return x.new_zeros((x.shape[0], 1, height, width)) + self.values.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.out_channels}, span={self.span}, stride={self.stride}"


@final
class Scattered(nn.Sequential):
    """A shrunk layer and the Scatter behind it, in the place where the layer stood."""


@final
class Gathered(nn.Sequential):
    """A Scatter and the grouped convolution that reads it, in the place where the convolution stood: the Scatter brings the
    channels that are left into groups of equal size."""


def scatter(
    sources: Tensor, values: Tensor, in_channels: int, stride: int, like: Tensor, ndim: int = 4, axis: int = 1
) -> Scatter:
    """A Scatter on `like`'s device and dtype: output k reads input sources[k], or is values[k] where sources[k] is -1."""
    constants, which = torch.unique(values[sources < 0], return_inverse=True)
    module = Scatter(in_channels, len(sources), len(constants), ndim, stride, axis)
    module = module.to(device=like.device, dtype=like.dtype)
    index = sources.clone()
    index[sources < 0] = in_channels + which
    module.index.copy_(index)
    module.values.copy_(constants.view_as(module.values))
    return module


def constant(values: Tensor, layer: nn.Conv2d | nn.Linear) -> Constant:
    """The Constant that takes the place of `layer`, on its device and in its dtype."""
    if isinstance(layer, nn.Linear):
        module = Constant(len(values))
    else:
        reach = [d * (k - 1) + 1 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        if isinstance(layer.padding, str):  # "same" pads one less than the reach in total, "valid" not at all
            total = [r - 1 for r in reach] if layer.padding == "same" else [0, 0]
        else:
            total = [2 * p for p in layer.padding]
        module = Constant(len(values), [r - t for r, t in zip(reach, total, strict=True)], layer.stride)
    module = module.to(device=layer.weight.device, dtype=layer.weight.dtype)
    module.values.copy_(values.view_as(module.values))
    return module
