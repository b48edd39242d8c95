"""Finished layers of a pruning after training, kept in a folder: a rerun continues behind the last of them, to the same bits."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from torch import Tensor, nn

from nets.checkpoint import Snapshot, read_checkpoint, write_checkpoint
from nets.post_training.plan import Plan
from perspective.errors import InputError

PHASE = "post_training"


@final
@dataclass(frozen=True)
class Progress:
    """counts: channels each site keeps; layers: the reports of those that are done, as plain entries."""

    counts: tuple[int, ...]
    layers: tuple[dict[str, Any], ...]


def read_progress(folder: Path | None, model: nn.Module, images: Tensor, plan: Plan) -> Progress | None:
    """What an earlier run left, its weights put into `model` (the untouched network); None where there is nothing.

    InputError where the folder belongs to another network, other images or another plan.
    """
    if folder is None:
        return None
    snapshot, _ = read_checkpoint(folder)
    if snapshot is None:
        return None
    if snapshot.phase != PHASE or snapshot.facts.get("identity") != _identity(model, images, plan):
        raise InputError(f"{folder} holds another network's or another plan's layers; choose another folder")
    model.load_state_dict(snapshot.tensors)
    return Progress(tuple(snapshot.facts["counts"]), tuple(snapshot.facts["layers"]))


def write_progress(
    folder: Path | None, model: nn.Module, pruned: nn.Module, images: Tensor, plan: Plan, done: Progress
) -> None:
    """Keep what is done; `model` is the untouched network."""
    if folder is None:
        return
    facts = {"identity": _identity(model, images, plan), "counts": list(done.counts), "layers": list(done.layers)}
    write_checkpoint(folder, Snapshot(PHASE, len(done.layers), pruned.state_dict(), {}, 0, facts))


def _identity(model: nn.Module, images: Tensor, plan: Plan) -> str:
    digest = hashlib.sha256(json.dumps(asdict(plan), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    digest.update(np.ascontiguousarray(images.numpy()).tobytes())
    return digest.hexdigest()
