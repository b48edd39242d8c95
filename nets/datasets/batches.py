"""One epoch's batches: a seeded permutation, and crop, flip and cutout of a whole batch at once, on the data's device.

Everything random comes from one CPU generator seeded by (seed, phase, epoch): an epoch can be repeated bit for bit
with no state carried over from the epochs before it.
"""

import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from nets.datasets.images import Batch, Images


def epoch_generator(seed: int, phase: str, epoch: int) -> torch.Generator:
    """The generator of that epoch; the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{phase}/{epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def batches(dataset: Images, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
    """(images, labels) of the training split in random order, augmented and normalised."""
    return dataset.train_batches(batch_size, generator)


def steps_per_epoch(dataset: Images, batch_size: int) -> int:
    """Number of batches that `batches` gives."""
    whole, rest = divmod(len(dataset.train), batch_size)
    return whole + (rest > 1 or len(dataset.train) == 1)


def epoch_order(count: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """The indices 0 ... count - 1 in random order, a tensor for each batch; a last batch of one is left out."""
    order = torch.randperm(count, generator=generator).split(batch_size)
    return list(order[:-1] if len(order[-1]) == 1 and count > 1 else order)


def augment(
    images: Tensor, padding: int, flip: bool, generator: torch.Generator, cutout: int = 0, fill: Sequence[int] = (0,)
) -> Tensor:
    """Each image shifted by up to `padding` pixels (zeros come in) and, with `flip`, mirrored with probability 1/2; then a
    square of `cutout` pixels a side painted over with `fill`, see `cut_out`.

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
    moved = padded[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return cut_out(moved, cutout, fill, generator) if cutout else moved


def cut_out(images: Tensor, size: int, fill: Sequence[int], generator: torch.Generator) -> Tensor:
    """In each image the `size` x `size` square around a pixel drawn uniformly, clipped at the border, is painted with `fill`
    (one number, or one a channel).

    Source: DeVries, Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", arXiv 1708.04552; there the
    fill is the mean colour.
    """
    count, _, height, width = images.shape
    inside = []
    for pixels in (height, width):
        first = torch.randint(0, pixels, (count, 1), generator=generator) - size // 2
        positions = torch.arange(pixels)
        inside.append(((positions >= first) & (positions < first + size)).to(images.device))
    square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    paint = torch.tensor(fill, dtype=images.dtype, device=images.device).view(1, -1, 1, 1)
    return torch.where(square, paint, images)
