"""relu(batch_norm(x) [+ residual]) in training, on the CPU: two passes over memory forward, two backward.

Source of the formulas: Ioffe, Szegedy, ICML 2015. With dz the gradient that passes relu, d = x - mean, s = weight / sqrt(var + eps):
    dbias = sum dz,   dweight = invstd sum dz d,   dx = s (dz - dbias / n - d invstd dweight / n),   dresidual = dz
x is measured from the mean rounded to float32 (`centre`); what the rounding left goes into the other numbers of a channel, which are
computed in float64 and rounded once.
"""

import math
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nets.fused.norm_programs import program

LANES, TILE = 16, 1024  # numbers of a vector; numbers that are worth a tile


def period_of(channels: int) -> int:
    """Numbers in a tile: whole rows and, where that is not too long, whole vectors."""
    rows = math.lcm(channels, LANES) // channels
    if rows * channels > 2 * TILE:
        rows = 1
    return channels * rows * max(1, TILE // (channels * rows))


def measure(x: Tensor) -> Tensor:
    """Mean and biased variance of every channel, (2, channels) float64; x (batch, channels, height, width), channels_last."""
    channels = x.shape[1]
    period = period_of(channels)
    scratch, lanes = torch.empty(3, period), torch.empty(2, period, dtype=torch.float64)
    sums, found = torch.empty(2, 2, channels, dtype=torch.float64)
    program("measure", x.dtype)(
        *(x.data_ptr(), x.numel(), channels, period, scratch.data_ptr(), lanes.data_ptr(), sums.data_ptr(), found.data_ptr())
    )
    return found


def unbiased(variance: Tensor, count: int) -> Tensor:
    """The variance that is remembered, from the one that normalises; count: of numbers in a channel."""
    return variance * (count / (count - 1))


def forward_numbers(found: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """(3, channels) float32: centre, scale, shift."""
    mean, variance = found
    centre = mean.float()
    scale = weight.double() * (variance + eps).rsqrt()
    return torch.stack([centre, scale.float(), (bias.double() + (centre.double() - mean) * scale).float()])


def backward_numbers(found: Tensor, sums: Tensor, weight: Tensor, eps: float, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """(2, channels) float32: slope and level; and the gradients of weight and bias. sums (2, channels): of dz, and of dz (x -
    centre)."""
    mean, variance = found
    left = mean - mean.float().double()
    invstd = (variance + eps).rsqrt()
    scale = weight.double() * invstd
    dbias = sums[0]
    dweight = (sums[1] - left * sums[0]) * invstd
    slope = scale * invstd * dweight / count
    level = scale * dbias / count - slope * left
    return torch.stack([slope, level]).float(), dweight.float(), dbias.float()


@final
class FusedNormRelu(torch.autograd.Function):
    """apply(x, residual or None, weight, bias, eps) -> (y, mean, unbiased variance), the last two (channels,) float64.

    x, residual  (batch, channels, height, width), channels_last, float32 or bfloat16; weight, bias (channels,) float32
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, eps: float) -> Any:
        found = measure(x)
        tile = _tiled(forward_numbers(found, weight, bias, eps))
        y = torch.empty_like(x)
        added = x if residual is None else residual
        program("normalise", x.dtype)(
            *(x.data_ptr(), added.data_ptr(), y.data_ptr(), x.numel(), tile.shape[1], residual is not None, tile.data_ptr())
        )
        ctx.eps = eps
        ctx.save_for_backward(x, None if residual is None else y, weight, bias, found)
        mean, variance = found[0].clone(), unbiased(found[1], x.numel() // x.shape[1])
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> Any:
        x, y, weight, bias, found = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        tile = _tiled(forward_numbers(found, weight, bias, ctx.eps))
        period, channels, added = tile.shape[1], x.shape[1], y is not None
        scratch, lanes = torch.empty(2, period), torch.empty(2, period, dtype=torch.float64)
        answer = y if added else x
        program("collect", x.dtype)(
            *(x.data_ptr(), gradient.data_ptr(), answer.data_ptr(), x.numel(), period, added),
            *(tile.data_ptr(), scratch.data_ptr(), lanes.data_ptr()),
        )
        sums = lanes.view(2, -1, channels).sum(1)
        more, dweight, dbias = backward_numbers(found, sums, weight, ctx.eps, x.numel() // channels)
        tile = torch.cat([tile, _tiled(more)])
        dx = torch.empty_like(x)
        dr = torch.empty_like(x) if added else None
        program("give_back", x.dtype)(
            *(x.data_ptr(), gradient.data_ptr(), answer.data_ptr(), dx.data_ptr(), dx.data_ptr() if dr is None else dr.data_ptr()),
            *(x.numel(), period, added, tile.data_ptr()),
        )
        return dx, dr, dweight, dbias, None


def _tiled(numbers: Tensor) -> Tensor:
    """(k, channels) -> (k, period)"""
    channels = numbers.shape[1]
    return numbers.repeat(1, period_of(channels) // channels)
