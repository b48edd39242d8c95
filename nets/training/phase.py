"""One phase of training, epoch by epoch: train, validate, write the metrics line, write the checkpoint."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from nets.checkpoint import Snapshot, newest, restore, take, write_checkpoint
from nets.datasets.images import Images
from nets.groups import ChannelGroups
from nets.optimizer import Proximal
from nets.settings import Settings
from nets.training.averaging import Average
from nets.training.epoch import Task, captured_step, seed_layers, train_epoch
from nets.training.evaluate import accuracy
from nets.training.progress import EpochBars
from nets.training.ranks import ALONE, Ranks
from nets.training.run_folder import append_metrics
from nets.training.tensorboard import open_writer, write_scalars
from perspective.errors import CheckFailed, InputError

MakeOptimizer = Callable[[Iterable[nn.Parameter], float], Optimizer]
PHASES = ("dense", "regularise", "finetune")


@final
@dataclass(frozen=True)
class Run:
    """What all phases of one run share. `facts` collects what phases find; it travels in the checkpoints.

    snapshot  the checkpoint a resumed run continues from, or None
    """

    settings: Settings
    out: Path
    data: Images
    device: torch.device
    bars: EpochBars
    snapshot: Snapshot | None
    facts: dict[str, Any]
    make_optimizer: MakeOptimizer | None = None
    ranks: Ranks = ALONE

    def is_past(self, phase: str) -> bool:
        """Is the checkpoint of a later phase than this one?"""
        return self.snapshot is not None and PHASES.index(self.snapshot.phase) > PHASES.index(phase)

    def optimizer(self, model: nn.Module, lr: float, phase: str = "regularise") -> Optimizer:
        """The caller's own optimizer, or the one the settings name for the phase, on every parameter."""
        if self.make_optimizer is not None:
            return self.make_optimizer(model.parameters(), lr)
        return plain_optimizer(model, self.settings, lr, phase)


def plain_optimizer(model: nn.Module, settings: Settings, lr: float, phase: str = "regularise") -> Optimizer:
    """The optimizer asked for, on every parameter: SGD with momentum and weight decay (as the SPR authors train),
    Nesterov's, or AdamW."""
    name = settings.optimizer_of(phase)
    if name == "adamw":
        return AdamW(model.parameters(), lr=lr, weight_decay=settings.weight_decay, capturable=settings.capture)
    return SGD(
        model.parameters(),
        lr=lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=name == "nesterov",
    )


def train_phase(
    run: Run,
    phase: str,
    model: nn.Module,
    optimizer: Optimizer,
    groups: ChannelGroups,
    epochs: int,
    lr: float,
    *,
    behind: int = 0,
    teacher: nn.Module | None = None,
    before_epoch: Callable[[int], None] = lambda epoch: None,
    is_enough: Callable[[], bool] = lambda: False,
    count: Callable[[], dict[str, float]] = dict,
) -> int:
    """Train `model` in place for `epochs` epochs, or until `is_enough()` after one of them; returns the epochs done.

    A checkpoint of this phase is taken up where it stands. behind: epochs of the phase whose schedule this one goes on.
    teacher: see epoch.py. before_epoch(e): called before epoch e = 0, 1, ...; it may look at the weights and set prices.
    count(): more numbers for the metrics, asked for after epochs that changed the surviving channels.
    """
    settings, done = run.settings, 0
    averaged = settings.ema > 0 and phase != "regularise" and epochs > 0
    task = Task(
        phase,
        epochs,
        settings.rates(lr, phase, behind),
        run.ranks,
        teacher,
        Average(model, settings.ema) if averaged else None,
    )
    if run.snapshot is not None and run.snapshot.phase == phase:
        restore(run.snapshot, model, optimizer, task.average)
        done = run.snapshot.epoch
    joined = run.ranks.joined(model)
    if settings.capture:
        if run.ranks.world > 1:
            raise InputError("--capture takes one process; start it without torchrun, or leave --capture out")
        task = replace(task, captured=captured_step(joined, optimizer, settings, task))
    bar = run.bars.start(phase, epochs, done)
    writer = open_writer(run.out) if settings.tensorboard and run.ranks.is_main else None
    counted: tuple[dict[str, int], dict[str, float]] = ({}, {})
    total = sum(layer.channels for layer in groups.layers)
    while done < epochs and not run.facts.get(f"{phase}_ended", False):
        start = time.perf_counter()
        before_epoch(done)
        with seed_layers(settings.seed, phase, done, run.device):
            loss, train_accuracy = _train(run, model, joined, optimizer, task, done)
        validation = accuracy(model, run.data, run.data.validation, settings.precision)
        done += 1
        surviving = groups.surviving()
        if surviving != counted[0]:
            counted = (surviving, count())
        run.facts[f"{phase}_ended"] = is_enough()
        line = {
            "phase": phase,
            "epoch": done,
            "seconds": time.perf_counter() - start,
            "lr": optimizer.param_groups[0]["lr"],
            "train_loss": loss,
            "train_accuracy": train_accuracy,
            "validation_accuracy": validation,
            "penalty": _penalty(optimizer),
            **counted[1],
            "surviving": surviving,
            "channels": {layer.name: layer.channels for layer in groups.layers},
        }
        if run.ranks.is_main:
            lines = append_metrics(run.out / "metrics.jsonl", line)
            if writer is not None:
                write_scalars(writer, line)
            write_checkpoint(
                run.out / "checkpoint", take(phase, done, model, optimizer, lines, run.facts, average=task.average)
            )
        run.ranks.meet()
        note = f"loss {loss:.3f}, validation {validation:.2f} %, channels {sum(surviving.values())}/{total}"
        run.bars.advance(bar, note + "".join(f", {name.replace('_', ' ')} {v:.1%}" for name, v in counted[1].items()))
    if writer is not None:
        writer.close()
    if task.average is not None:
        task.average.write(model)
    return done


def _train(
    run: Run, model: nn.Module, joined: nn.Module, optimizer: Optimizer, task: Task, epoch: int
) -> tuple[float, float]:
    try:
        return train_epoch(model, joined, optimizer, run.data, run.settings, task, epoch)
    except CheckFailed as error:
        last = newest(run.out / "checkpoint")
        where = "there is no checkpoint before it" if last is None else f"the last finite state is {last}"
        raise CheckFailed(f"{error}; {where}") from error


def _penalty(optimizer: Optimizer) -> float | None:
    """The regulariser's value; None without one, and where a strength of 0 let a weight leave its box (it is infinite)."""
    if not isinstance(optimizer, Proximal):
        return None
    penalty = optimizer.penalty()
    return penalty if math.isfinite(penalty) else None
