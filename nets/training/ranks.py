"""Several processes, one training: torchrun's ranks, each with its share of every batch.

All ranks draw the same order and augment the same images, so a batch is the batch of one process; each takes every
world-th image of it. DistributedDataParallel averages the gradients, batch normalisation takes its statistics over all
ranks, and so every rank holds the same weights. The proximal step needs no communication: it is a function of the weights,
lr and lambda, which are the same bits on every rank.
"""

import copy
import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, final

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from nets.training.shared_statistics import with_shared_statistics
from perspective.errors import CheckFailed, InputError

PATIENCE = timedelta(minutes=30)  # rank 0 may be saving, or measuring a budget, while the others wait
LOST = (
    "another process of this training has stopped (where it could, it has said why); start the same command on all of "
    "them again with --resume, it continues from the last checkpoint"
)


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

    def settle(self, decide: Callable[[], Any]) -> Any:
        """What rank 0 decides (plain JSON) once all ranks are here, the same on every rank: for whatever a clock or a disk has
        a say in. A sentence it fails with is raised on all of them."""
        if self.world == 1:
            return decide()
        self.meet()
        said: dict[str, Any] = {}
        if self.is_main:
            try:
                said = {"answer": decide()}
            except (InputError, CheckFailed) as error:
                said = {"failed": isinstance(error, CheckFailed), "sentence": str(error)}
        said = json.loads(_broadcast(json.dumps(said).encode()))
        if "answer" in said:
            return said["answer"]
        raise (CheckFailed if said["failed"] else InputError)(said["sentence"])

    def joined(self, model: nn.Module) -> nn.Module:
        """A twin of `model` for the forward pass: the same parameter and buffer tensors, gradients averaged over the ranks,
        statistics of batch normalisation taken over them. `model` itself keeps its plain modules."""
        if self.world == 1:
            return model
        shared = {id(t): t for t in (*model.parameters(), *model.buffers())}
        twin = with_shared_statistics(copy.deepcopy(model, shared))
        warnings.filterwarnings(
            "ignore", message="Grad strides do not match"
        )  # of one input channel: two ways to say it
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
    try:
        if device == "cuda":
            distributed.init_process_group("nccl", timeout=PATIENCE, device_id=torch.device("cuda", ranks.local))
        else:
            distributed.init_process_group("gloo", timeout=PATIENCE)
        with warnings.catch_warnings():
            yield ranks
    except RuntimeError as error:
        if isinstance(error, CheckFailed) or not _is_lost_peer(error):
            raise
        raise CheckFailed(LOST) from error
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _broadcast(text: bytes) -> bytes:
    """Rank 0's text on every rank."""
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    length = torch.tensor([len(text)], device=device)
    distributed.broadcast(length, 0)
    sent = torch.zeros(int(length), dtype=torch.uint8, device=device)
    if distributed.get_rank() == 0:
        sent.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
    distributed.broadcast(sent, 0)
    return bytes(sent.cpu().numpy())


def _is_lost_peer(error: RuntimeError) -> bool:
    lost = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "timed out", "timeout")
    return isinstance(error, distributed.DistError) or any(word in str(error).lower() for word in lost)
