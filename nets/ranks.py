"""Several processes, one training: torchrun's ranks, each with its share of every batch.

All ranks draw the same order and augment the same images, so a batch is the batch of one process; each takes every
world-th image of it. DistributedDataParallel averages the gradients, batch normalisation takes its statistics over all
ranks, and so every rank holds the same weights. The proximal step needs no communication: it is a function of the weights,
lr and lambda, which are the same bits on every rank.
"""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, final

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from perspective.errors import CheckFailed, InputError

PATIENCE = timedelta(minutes=10)  # rank 0 may be saving, or measuring a budget, while the others wait


@final
@dataclass(frozen=True)
class Ranks:
    """rank 0 .. world - 1; local: the rank on this machine, which is its GPU's number."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def is_main(self) -> bool:
        """The one that writes."""
        return self.rank == 0

    def share(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """This rank's part of a batch."""
        return images[self.rank :: self.world], labels[self.rank :: self.world]

    def meet(self) -> None:
        """Wait for all ranks."""
        if self.world > 1:
            distributed.barrier()

    def joined(self, model: nn.Module) -> nn.Module:
        """A twin of `model` for the forward pass: the same parameter and buffer tensors, gradients averaged over the ranks,
        statistics of batch normalisation taken over them. `model` itself keeps its plain modules."""
        if self.world == 1:
            return model
        shared = {id(t): t for t in (*model.parameters(), *model.buffers())}
        twin = _with_common_statistics(copy.deepcopy(model, shared))
        return DistributedDataParallel(twin)


ALONE = Ranks()


@contextmanager
def joined_ranks(device: str) -> Iterator[Ranks]:
    """The ranks torchrun started (one, where it did not); the process group lives as long as the context."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or "RANK" not in os.environ:
        yield ALONE
        return
    ranks = Ranks(int(os.environ["RANK"]), world, int(os.environ.get("LOCAL_RANK", "0")))
    if device == "cuda" and ranks.local >= torch.cuda.device_count():
        raise InputError(
            f"rank {ranks.rank} has no GPU of its own; start at most {torch.cuda.device_count()} processes"
        )
    distributed.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield ranks
    except RuntimeError as error:
        if not _is_lost_peer(error):
            raise
        raise CheckFailed(
            "another process of this training has stopped; start the same torchrun command again with --resume, "
            "it continues from the last checkpoint"
        ) from error
    finally:
        distributed.destroy_process_group()


def _is_lost_peer(error: RuntimeError) -> bool:
    lost = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "timed out", "timeout")
    return isinstance(error, distributed.DistError) or any(word in str(error).lower() for word in lost)


def _with_common_statistics(model: nn.Module) -> nn.Module:
    """Every batch normalisation of `model` replaced by one over all ranks (torch's own on a GPU), tensors shared."""
    if next(model.parameters()).device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and name:
            model.set_submodule(name, CommonBatchNorm(module))
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
class CommonBatchNorm(nn.Module):
    """Batch normalisation over the batches of all ranks, for CPUs (torch's SyncBatchNorm wants GPUs)."""

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        self.eps, self.momentum = norm.eps, norm.momentum
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)
        self.training = norm.training

    def forward(self, x: Tensor) -> Tensor:
        dims = [0, *range(2, x.dim())]
        shape = [1, -1] + [1] * (x.dim() - 2)
        if self.training:
            count = torch.tensor([float(x.numel() // x.shape[1])], dtype=torch.float32)
            full = x.float()
            sums = SumOverRanks.apply(torch.cat([full.sum(dims), (full * full).sum(dims), count]))
            total = sums[-1].detach()
            mean, square = (sums[:-1] / total).chunk(2)
            variance = square - mean * mean
            self._remember(mean.detach(), variance.detach() * (total / (total - 1)))
        else:
            mean, variance = self.running_mean, self.running_var
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        moved = (x.float() - mean.view(shape)) * scale.view(shape)
        return (moved if self.bias is None else moved + self.bias.view(shape)).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if getattr(self, "running_mean", None) is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)
