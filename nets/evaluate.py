"""Accuracy of a network on one split, in percent of correct answers."""

import torch
from torch import nn

from nets.data import Dataset, Split


@torch.no_grad()
def accuracy(
    model: nn.Module, dataset: Dataset, split: Split, precision: str = "float32", batch_size: int = 500
) -> float:
    """Percent of `split`'s images whose largest logit is at their label; evaluation mode, mode restored.

    precision: "float32", or "bfloat16" (autocast), which is faster and good enough to watch a training.
    """
    training = model.training
    model.eval()
    correct = 0
    for start in range(0, len(split), batch_size):
        images = dataset.normalise(split.images[start : start + batch_size])
        with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(images)
        correct += int((logits.argmax(1) == split.labels[start : start + batch_size]).sum())
    model.train(training)
    return 100.0 * correct / len(split)
