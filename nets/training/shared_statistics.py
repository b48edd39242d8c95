"""Batch normalisation whose statistics are those of the batches of all processes: then a batch shared among them is normalised
as one process would normalise it.
"""

from typing import Any, final

import torch
from torch import Tensor, distributed, nn


def with_shared_statistics(model: nn.Module) -> nn.Module:
    """Every batch normalisation of `model` replaced by one over all ranks (torch's own on a GPU), tensors shared."""
    if next(model.parameters()).device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            if not name:
                return SharedBatchNorm(module)
            model.set_submodule(name, SharedBatchNorm(module))
    return model


@final
class SumOverRanks(torch.autograd.Function):
    """The sum of every rank's tensor; the gradient of an entry is the sum of what every rank says of it."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total


@final
class SharedBatchNorm(nn.Module):
    """Batch normalisation over the batches of all ranks, for CPUs (torch's SyncBatchNorm wants GPUs).

    (batch, channels, ...) -> the same shape and dtype; computed in float32 or wider. The mean is summed first and the squared
    distances from it afterwards: a mean of squares would lose the variance of a channel that is far from zero.
    """

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        self.eps, self.momentum = norm.eps, norm.momentum
        self.weight, self.bias = norm.weight, norm.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))
        self.training = norm.training

    def forward(self, x: Tensor) -> Tensor:
        dims = [0, *range(2, x.dim())]
        shape = [1, -1] + [1] * (x.dim() - 2)
        full = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.training or self.running_mean is None:
            own = full.new_tensor([x.numel() // x.shape[1]])
            sums = SumOverRanks.apply(torch.cat([full.sum(dims), own]))
            count = sums[-1].detach()
            moved = full - (sums[:-1] / count).view(shape)
            variance = SumOverRanks.apply(moved.square().sum(dims)) / count
            if self.training:
                self._remember(sums[:-1].detach() / count, variance.detach() * (count / (count - 1)))
        else:
            moved, variance = full - self.running_mean.view(shape), self.running_var
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        moved = moved * scale.view(shape)
        return (moved if self.bias is None else moved + self.bias.view(shape)).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """The running averages; variance: unbiased."""
        if self.running_mean is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)
