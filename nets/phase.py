"""One phase of training, epoch by epoch: train, validate, write the metrics line, write the checkpoint."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import nn
from torch.optim import SGD, Optimizer

from nets.checkpoint import Snapshot, restore, take, write_checkpoint
from nets.data import Dataset
from nets.epoch import train_epoch
from nets.evaluate import accuracy
from nets.groups import ChannelGroups
from nets.optimizer import Proximal
from nets.progress import EpochBars
from nets.run_folder import append_metrics
from nets.settings import MOMENTUM, Settings

PHASES = ("dense", "regularise", "finetune")


@final
@dataclass(frozen=True)
class Run:
    """What all phases of one run share. `facts` collects what phases find; it travels in the checkpoints.

    snapshot  the checkpoint a resumed run continues from, or None
    """

    settings: Settings
    out: Path
    data: Dataset
    device: torch.device
    bars: EpochBars
    snapshot: Snapshot | None
    facts: dict[str, Any]

    def is_past(self, phase: str) -> bool:
        """Is the checkpoint of a later phase than this one?"""
        return self.snapshot is not None and PHASES.index(self.snapshot.phase) > PHASES.index(phase)


def plain_optimizer(model: nn.Module, settings: Settings, lr: float) -> Optimizer:
    """SGD with momentum and weight decay on every parameter, as the SPR authors train."""
    return SGD(model.parameters(), lr=lr, momentum=MOMENTUM, weight_decay=settings.weight_decay)


def train_phase(
    run: Run,
    phase: str,
    model: nn.Module,
    optimizer: Optimizer,
    groups: ChannelGroups,
    epochs: int,
    lr: float,
    is_enough: Callable[[], bool] = lambda: False,
) -> int:
    """Train `model` in place for `epochs` epochs, or until `is_enough()` after one of them; returns the epochs done.

    A checkpoint of this phase is taken up where it stands.
    """
    settings, done = run.settings, 0
    if run.snapshot is not None and run.snapshot.phase == phase:
        restore(run.snapshot, model, optimizer)
        done = run.snapshot.epoch
    bar = run.bars.start(phase, epochs, done)
    total = sum(layer.channels for layer in groups.layers)
    while done < epochs and not run.facts.get(f"{phase}_ended", False):
        start = time.perf_counter()
        loss, train_accuracy = train_epoch(
            model,
            optimizer,
            run.data,
            phase=phase,
            epoch=done,
            epochs=epochs,
            lr=lr,
            batch_size=settings.batch_size,
            seed=settings.seed,
            precision=settings.precision,
        )
        validation = accuracy(model, run.data, run.data.validation, settings.precision)
        done += 1
        surviving = groups.surviving()
        run.facts[f"{phase}_ended"] = is_enough()
        lines = append_metrics(
            run.out / "metrics.jsonl",
            {
                "phase": phase,
                "epoch": done,
                "seconds": time.perf_counter() - start,
                "lr": optimizer.param_groups[0]["lr"],
                "train_loss": loss,
                "train_accuracy": train_accuracy,
                "validation_accuracy": validation,
                "penalty": _penalty(optimizer),
                "surviving": surviving,
                "channels": {layer.name: layer.channels for layer in groups.layers},
            },
        )
        write_checkpoint(run.out / "checkpoint", take(phase, done, model, optimizer, lines, run.facts))
        note = f"loss {loss:.3f}, validation {validation:.2f} %, channels {sum(surviving.values())}/{total}"
        run.bars.advance(bar, note)
    return done


def _penalty(optimizer: Optimizer) -> float | None:
    """The regulariser's value; None without one, and where a strength of 0 let a weight leave its box (it is infinite)."""
    if not isinstance(optimizer, Proximal):
        return None
    penalty = optimizer.penalty()
    return penalty if math.isfinite(penalty) else None
