"""relu(batch_norm(x) [+ residual]) as one autograd function over the compiled passes, for training on the CPU."""

import math
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nets.fused.norm_programs import LANES, TILE, program

VECTOR, WORTH = 16, 1024  # numbers of a vector; numbers that are worth a tile


def period_of(channels: int) -> int:
    """Numbers in a tile: whole rows and, where that is not too long, whole vectors."""
    rows = math.lcm(channels, VECTOR) // channels
    if rows * channels > 2 * WORTH:
        rows = 1
    return channels * rows * max(1, WORTH // (channels * rows))


def fused_norm_relu(norm: nn.BatchNorm2d, x: Tensor, residual: Tensor | None) -> Tensor:
    """The answer, and the norm's running averages as `nn.BatchNorm2d.forward` keeps them.

    x, residual  (batch, channels, height, width), channels_last, float32 or bfloat16; all else float32
    """
    share, kept = norm.momentum or 0.0, norm.track_running_stats and norm.running_mean is not None
    if norm.track_running_stats and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if norm.momentum is None:
            share = 1.0 / float(norm.num_batches_tracked)
    averages = (norm.running_mean, norm.running_var) if kept else None
    y: Tensor = _FusedNormRelu.apply(x, residual, norm.weight, norm.bias, norm.eps, share, averages)
    if averages is not None:
        torch.autograd.graph.increment_version(averages)
    return y


@final
class _FusedNormRelu(torch.autograd.Function):
    """Saved for the backward pass: x, its statistics, and y where there is a residual (else its sign is found again from x)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Any, weight: Tensor, bias: Tensor, eps: float, share: float, averages: Any
    ) -> Tensor:
        y, found = torch.empty_like(x), torch.empty(2, len(weight), dtype=torch.float64)
        mean, variance = (weight, weight) if averages is None else averages
        period, scratch, lanes = _scratch(len(weight))
        program("forward", x.dtype)(
            *(x.data_ptr(), x.data_ptr() if residual is None else residual.data_ptr(), y.data_ptr()),
            *(weight.data_ptr(), bias.data_ptr(), eps, found.data_ptr(), share, mean.data_ptr(), variance.data_ptr()),
            *(
                residual is not None,
                averages is not None,
                x.numel(),
                len(weight),
                period,
                scratch.data_ptr(),
                lanes.data_ptr(),
            ),
        )
        ctx.eps = eps
        ctx.save_for_backward(x, None if residual is None else y, weight, bias, found)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, y, weight, bias, found = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        dx, changes = torch.empty_like(x), torch.empty(2, len(weight), dtype=torch.float32)
        dr = None if y is None else torch.empty_like(x)
        period, scratch, lanes = _scratch(len(weight))
        program("backward", x.dtype)(
            *(x.data_ptr(), gradient.data_ptr(), x.data_ptr() if y is None else y.data_ptr()),
            *(dx.data_ptr(), dx.data_ptr() if dr is None else dr.data_ptr()),
            *(weight.data_ptr(), bias.data_ptr(), ctx.eps, found.data_ptr(), changes.data_ptr()),
            *(y is not None, x.numel(), len(weight), period, scratch.data_ptr(), lanes.data_ptr()),
        )
        return dx, dr, changes[0], changes[1], None, None, None


def _scratch(channels: int) -> tuple[int, Tensor, Tensor]:
    period = period_of(channels)
    return period, torch.empty(TILE, period, dtype=torch.float32), torch.empty(LANES, period, dtype=torch.float64)
