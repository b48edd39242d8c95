"""Accuracy of a network on one split, in percent of correct answers."""

from typing import Any

import torch
from torch import nn

from nets.datasets.images import Images


@torch.no_grad()
def accuracy(
    model: nn.Module, dataset: Images, split: Any, precision: str = "float32", batch_size: int | None = None
) -> float:
    """Percent of the images of `split` (dataset.validation, ...) whose largest logit is at their label; evaluation mode, mode
    restored.

    precision: "float32", or "bfloat16" (autocast), which is faster and good enough to watch a training. batch_size: None for
    the data set's own.
    """
    training = model.training
    model.eval()
    correct = 0
    for images, labels in dataset.split_batches(split, batch_size or dataset.evaluation_batch):
        with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(images)
        correct += int((logits.argmax(1) == labels).sum())
    model.train(training)
    return 100.0 * correct / len(split)
