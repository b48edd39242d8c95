"""Checkpoints that survive a kill at any moment and open no pickle: safetensors for tensors, JSON for the rest.

    RUN/checkpoint/000012/tensors.safetensors, state.json, sha256.json

A checkpoint is written under a temporary name, flushed to the disk and renamed; then all but the last two are
deleted. Reading takes the newest whose hashes hold, and says so when it had to pass over a damaged one.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.optim import Optimizer

from nets.training.averaging import Average
from perspective.errors import InputError

KEPT = 2
FILES = ("tensors.safetensors", "state.json")


@final
@dataclass(frozen=True)
class Snapshot:
    """The state after `epoch` whole epochs of `phase`.

    tensors    the network's ("model.NAME"), the optimizer's ("optimizer.INDEX.KEY"; INDEX "method": what a pruning method
               keeps), averaged weights ("average.NAME")
    optimizer  the rest of the optimizer's state_dict
    metrics    lines of metrics.jsonl that belong to it
    facts      what earlier phases found (JSON)
    """

    phase: str
    epoch: int
    tensors: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    metrics: int
    facts: Mapping[str, Any]


def take(
    phase: str,
    epoch: int,
    model: nn.Module,
    optimizer: Optimizer,
    metrics: int,
    facts: Mapping[str, Any],
    average: Average | None = None,
) -> Snapshot:
    """The present state of a training as a Snapshot."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in average.tensors.items()}
    state = optimizer.state_dict()
    rest: dict[str, Any] = {key: value for key, value in state.items() if key != "state"}
    rest["state"] = {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
            else:
                rest["state"].setdefault(str(index), {})[key] = value
    return Snapshot(phase, epoch, tensors, rest, metrics, facts)


def restore(snapshot: Snapshot, model: nn.Module, optimizer: Optimizer, average: Average | None = None) -> None:
    """Put the snapshot into a network, an optimizer and an average of the same shape; InputError where they do not fit."""
    weights = {name.removeprefix("model."): t for name, t in snapshot.tensors.items() if name.startswith("model.")}
    state: dict[int | str, dict[str, Any]] = {
        _key(index): dict(entries) for index, entries in snapshot.optimizer["state"].items()
    }
    for name, tensor in snapshot.tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(_key(index), {})[key] = tensor
    try:
        model.load_state_dict(weights)
        optimizer.load_state_dict({**snapshot.optimizer, "state": state})
        if average is not None:
            mean = {n.removeprefix("average."): t for n, t in snapshot.tensors.items() if n.startswith("average.")}
            average.restore(mean)
    except (RuntimeError, ValueError, KeyError) as error:
        raise InputError(
            f"the checkpoint does not fit this network ({type(error).__name__}); start the run again"
        ) from error


def _key(index: str) -> int | str:
    """Whose state it is: a parameter's, by number, or a pruning method's."""
    return int(index) if index.isdigit() else index


def write_checkpoint(folder: Path, snapshot: Snapshot) -> Path:
    """Write `snapshot` as the newest checkpoint in `folder`, atomically; the one before it is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [int(path.name) for path in _present(folder)]
    target = folder / f"{max(numbers, default=0) + 1:06d}"
    temporary = folder / f".{target.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    state = {
        "format": 1,
        "phase": snapshot.phase,
        "epoch": snapshot.epoch,
        "optimizer": snapshot.optimizer,
        "metrics": snapshot.metrics,
        "facts": snapshot.facts,
    }
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in snapshot.tensors.items()}
    contents = {
        "tensors.safetensors": save(tensors),
        "state.json": json.dumps(state, allow_nan=False).encode(),
    }
    contents["sha256.json"] = json.dumps({name: hashlib.sha256(contents[name]).hexdigest() for name in FILES}).encode()
    for name, content in contents.items():
        with (temporary / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    _flush(temporary)
    temporary.rename(target)
    _flush(folder)
    for old in _present(folder)[:-KEPT]:
        shutil.rmtree(old)
    for left_over in folder.glob(".[0-9]*"):  # of a process killed while writing
        shutil.rmtree(left_over, ignore_errors=True)
    return target


def read_checkpoint(folder: Path) -> tuple[Snapshot | None, list[str]]:
    """The newest sound checkpoint (None where nothing was written yet) and a sentence for each damaged one passed over.

    InputError where there are checkpoints and none is sound.
    """
    warnings: list[str] = []
    for path in reversed(_present(folder)):
        try:
            return _read(path), warnings
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.append(f"checkpoint {path} is damaged ({error}); the one before it is used")
    if warnings:
        raise InputError(f"every checkpoint in {folder} is damaged; delete the run folder and start again")
    return None, []


def newest(folder: Path) -> Path | None:
    """The checkpoint written last, or None."""
    present = _present(folder)
    return present[-1] if present else None


def _read(path: Path) -> Snapshot:
    hashes = json.loads((path / "sha256.json").read_bytes())
    contents = {name: (path / name).read_bytes() for name in FILES}
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != hashes[name]:
            raise ValueError(f"{name} does not match its hash")
    state = json.loads(contents["state.json"])
    if state["format"] != 1:
        raise ValueError(f"unknown format {state['format']}")
    tensors = load(contents["tensors.safetensors"])
    if not all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point()):
        raise ValueError("it holds NaN or infinite numbers")
    return Snapshot(state["phase"], state["epoch"], tensors, state["optimizer"], state["metrics"], state["facts"])


def _present(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name.isdigit())


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
