"""One epoch's batches: a seeded permutation, and crop and flip of a whole batch at once, on the data's device.

Everything random comes from one CPU generator seeded by (seed, phase, epoch): an epoch can be repeated bit for bit
with no state carried over from the epochs before it.
"""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from nets.data import Dataset


def epoch_generator(seed: int, phase: str, epoch: int) -> torch.Generator:
    """The generator of that epoch; the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{phase}/{epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def batches(dataset: Dataset, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """(images, labels) of the training split in random order, augmented and normalised.

    A last batch of one image is left out: batch normalisation has no variance there.
    """
    count = len(dataset.train)
    order = torch.randperm(count, generator=generator)
    for start in range(0, count, batch_size):
        picked = order[start : start + batch_size]
        if len(picked) == 1 and count > 1:
            return
        picked = picked.to(dataset.train.images.device)
        images = augment(dataset.train.images[picked], dataset.padding, dataset.flip, generator)
        yield dataset.normalise(images), dataset.train.labels[picked]


def steps_per_epoch(dataset: Dataset, batch_size: int) -> int:
    """Number of batches that `batches` gives."""
    whole, rest = divmod(len(dataset.train), batch_size)
    return whole + (rest > 1 or len(dataset.train) == 1)


def augment(images: Tensor, padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Each image shifted by up to `padding` pixels (zeros come in) and, with `flip`, mirrored with probability 1/2.

    (batch, channels, height, width) -> the same shape and dtype.
    """
    count, _, height, width = images.shape
    top = torch.randint(0, 2 * padding + 1, (count, 1), generator=generator)
    left = torch.randint(0, 2 * padding + 1, (count, 1), generator=generator)
    columns = torch.arange(width).expand(count, width)
    if flip:
        mirrored = torch.rand((count, 1), generator=generator) < 0.5
        columns = torch.where(mirrored, width - 1 - columns, columns)
    rows = (top + torch.arange(height)).to(images.device)
    columns = (left + columns).to(images.device)
    padded = F.pad(images, (padding,) * 4).permute(0, 2, 3, 1)
    which = torch.arange(count, device=images.device)[:, None, None]
    return padded[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
