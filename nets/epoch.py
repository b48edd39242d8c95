"""One epoch of training: batches, loss, wrapped optimizer, and a stop with a sentence where the loss is no number."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer

from nets.batches import batches, epoch_generator, steps_per_epoch
from nets.data import Dataset
from nets.schedule import learning_rate
from perspective.errors import CheckFailed

CHECK_EVERY = 32  # steps: looking at the loss makes a device wait


def train_epoch(
    model: nn.Module,
    optimizer: Optimizer,
    dataset: Dataset,
    *,
    phase: str,
    epoch: int,
    epochs: int,
    lr: float,
    batch_size: int,
    seed: int,
    precision: str,
) -> tuple[float, float]:
    """Mean cross-entropy and percent of correct answers over the (augmented) training images of epoch `epoch` >= 0."""
    model.train()
    per_epoch = steps_per_epoch(dataset, batch_size)
    device = dataset.train.images.device
    losses, correct, seen = [], torch.zeros((), device=device), 0
    for step, (images, labels) in enumerate(batches(dataset, batch_size, epoch_generator(seed, phase, epoch))):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(lr, epoch * per_epoch + step, epochs * per_epoch)
        if precision == "bfloat16":
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(images)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach() * len(labels))
        correct += (logits.detach().argmax(1) == labels).sum()
        seen += len(labels)
        if step % CHECK_EVERY == CHECK_EVERY - 1 or step == per_epoch - 1:
            _check(torch.stack(losses), phase, epoch, lr)
    return float(torch.stack(losses).double().sum()) / seen, 100.0 * float(correct) / seen


def _check(losses: torch.Tensor, phase: str, epoch: int, lr: float) -> None:
    bad = (~torch.isfinite(losses)).nonzero()
    if len(bad):
        raise CheckFailed(
            f"the loss is not a number at step {int(bad[0]) + 1} of epoch {epoch + 1} of the {phase} phase: "
            f"the training diverged, most likely because the learning rate {lr:g} is too high; "
            "try a tenth of it in a new run"
        )
