"""One epoch of training: batches, loss, wrapped optimizer, and a stop with a sentence where the loss is no number."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from nets.datasets.batches import batches, epoch_generator, steps_per_epoch
from nets.datasets.images import Images
from nets.norm_relu import fused_norms
from nets.settings import Settings
from nets.training.averaging import Average
from nets.training.captured import CapturedStep
from nets.training.ranks import ALONE, Ranks
from nets.training.schedule import Schedule
from perspective.errors import CheckFailed, InputError

CHECK_EVERY = 32  # steps: looking at the loss makes a device wait
TEMPERATURE = 4.0  # of the distilled answers, Hinton, Vinyals, Dean (2015)


@contextmanager
def seed_layers(seed: int, phase: str, epoch: int, device: torch.device) -> Iterator[None]:
    """Dropout and stochastic depth draw from torch's own generators: those of this epoch inside, as they were after."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(epoch_generator(seed, f"layers {phase}", epoch).initial_seed())
        yield


@final
@dataclass(frozen=True)
class Task:
    """What a phase trains for.

    ranks    the processes that share it
    teacher  the dense network in evaluation mode, or None
    average  of the weights, or None
    captured  the whole step in a CUDA graph, or None
    """

    phase: str
    epochs: int
    schedule: Schedule
    ranks: Ranks = ALONE
    teacher: nn.Module | None = None
    average: Average | None = None
    captured: CapturedStep | None = None


def captured_step(joined: nn.Module, optimizer: Optimizer, settings: Settings, task: Task) -> CapturedStep:
    """The step of `train_epoch` for one process and batches in one part, ready to be captured."""

    def work(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        logits, loss = _loss(joined, images, labels, settings, task)
        loss.backward()
        optimizer.step()
        return loss.detach() * len(labels), (logits.detach().argmax(1) == labels).sum()

    return CapturedStep(work, optimizer)


def train_epoch(
    model: nn.Module,
    joined: nn.Module,
    optimizer: Optimizer,
    dataset: Images,
    settings: Settings,
    task: Task,
    epoch: int,
) -> tuple[float, float]:
    """Mean loss and percent of correct answers over the (augmented) training images of epoch `epoch` >= 0.

    joined: `model`, or its twin over several processes (ranks.py); then the figures are those of this rank's images.
    """
    model.train()
    joined.train()
    ranks = task.ranks
    per_epoch = steps_per_epoch(dataset, settings.batch_size)
    losses, correct, seen = [], 0, 0
    generator = epoch_generator(settings.seed, task.phase, epoch)
    for step, (images, labels) in enumerate(batches(dataset, settings.batch_size, generator)):
        for group in optimizer.param_groups:
            group["lr"] = task.schedule.rate(epoch * per_epoch + step, task.epochs * per_epoch)
        whole = len(labels)
        if task.captured is not None:
            loss, hits = task.captured(images, labels)
            losses.append(loss)
            correct, seen = correct + hits, seen + whole
            if step % CHECK_EVERY == CHECK_EVERY - 1:
                _check(torch.stack(losses), task, epoch)
            continue
        optimizer.zero_grad(set_to_none=True)
        if whole < ranks.world:
            continue  # not an image for each rank; all of them see the same count here
        images, labels = ranks.share(images, labels)
        count = _parts(settings.accumulate, whole, ranks.world)
        parts = zip(images.tensor_split(count), labels.tensor_split(count), strict=True)
        loss = torch.zeros((), device=images.device)
        for pictures, answers in parts:
            logits, part = _loss(joined, pictures, answers, settings, task)
            part = part * (len(answers) * ranks.world / whole)  # the ranks' gradients are averaged
            part.backward()
            loss += part.detach()
            correct = correct + (logits.detach().argmax(1) == answers).sum()
        if settings.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        if task.average is not None:
            task.average.update(model)
        losses.append(loss * (whole / ranks.world))
        seen += len(labels)
        if step % CHECK_EVERY == CHECK_EVERY - 1:
            _check(torch.stack(losses), task, epoch)
    if not losses:
        raise InputError(f"{ranks.world} processes share too few images; start fewer processes")
    _check(torch.stack(losses), task, epoch)
    return float(torch.stack(losses).double().sum()) / seen, 100.0 * float(correct) / seen


def _parts(asked: int, images: int, world: int) -> int:
    """In how many parts a batch is computed: the same on all ranks, and two images a part while there are as many."""
    return max(1, min(asked, images // world // 2))


def _loss(model: nn.Module, images: Tensor, labels: Tensor, settings: Settings, task: Task) -> tuple[Tensor, Tensor]:
    """Logits, and cross-entropy, of which `distill` is replaced by T^2 KL(teacher | student) at temperature T."""
    reduced = settings.precision == "bfloat16"
    fused = settings.batch_norm == "fused"
    if reduced or fused:
        images = images.contiguous(memory_format=torch.channels_last)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=reduced), fused_norms(fused):
        logits = model(images)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    loss = F.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing)
    if task.teacher is not None and settings.distill:
        with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=reduced):
            taught = task.teacher(images)
        student = F.log_softmax(logits / TEMPERATURE, 1)
        teacher = F.log_softmax(taught.to(logits.dtype) / TEMPERATURE, 1)
        apart = F.kl_div(student, teacher, reduction="batchmean", log_target=True) * TEMPERATURE**2
        loss = (1 - settings.distill) * loss + settings.distill * apart
    return logits, loss


def _check(losses: Tensor, task: Task, epoch: int) -> None:
    bad = (~torch.isfinite(losses)).nonzero()
    if len(bad):
        raise CheckFailed(
            f"the loss is not a number at step {int(bad[0]) + 1} of epoch {epoch + 1} of the {task.phase} phase: "
            f"the training diverged, most likely because the learning rate {task.schedule.lr:g} is too high; "
            "try a tenth of it, --warmup 0.05 or --clip 1 in a new run"
        )
