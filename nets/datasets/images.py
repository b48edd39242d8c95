"""What training asks of a data set, wherever its images are: in memory (nets/data.py) or files (nets/datasets/imagefolder.py)."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor

from perspective.errors import InputError

Batch = tuple[Tensor, Tensor]  # images (batch, channels, height, width) normalised float32, labels (batch,) int64


class Images(ABC):
    """Labelled square images in three splits.

    in_channels, image_size  of what a network sees; image_size: pixels of a side
    device                   where batches arrive
    white, mean, std         the uint8 that stands for 1.0; per channel, in units of it
    evaluation_batch         images of a batch where nothing is learned
    """

    name: str
    classes: int
    in_channels: int
    image_size: int
    device: torch.device
    white: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Sized
    validation: Sized
    test: Sized
    evaluation_batch: int = 500

    @abstractmethod
    def train_batches(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """One epoch of the training split: random order, augmented; everything random comes from the CPU `generator`.

        A last batch of one image is left out: batch normalisation has no variance there.
        """

    @abstractmethod
    def split_batches(self, split: Any, batch_size: int) -> Iterator[Batch]:
        """A split of this data set (self.train, self.validation or self.test), in its order, not augmented."""

    @property
    @abstractmethod
    def example_inputs(self) -> Tensor:
        """At most eight normalised validation images: for tracing, counting and comparing logits."""

    @abstractmethod
    def pick_training_images(self, indices: Sequence[int]) -> Tensor:
        """These images of the training split, normalised, not augmented: (len(indices), channels, height, width)."""

    @abstractmethod
    def to(self, device: torch.device) -> "Images":
        """The same data set with its batches on `device`."""

    def training_images(self, count: int, seed: int) -> Tensor:
        """`count` different training images drawn by `seed`, in the split's order, normalised, not augmented."""
        present = len(self.train)
        if count < 1:
            raise InputError(f"{count} training images are asked for; ask for at least one")
        if count > present:
            raise InputError(
                f"{count} images are asked for, and {self.name} has {present} training images; ask for fewer"
            )
        chosen = np.random.default_rng(seed).choice(present, count, replace=False)
        return self.pick_training_images(np.sort(chosen).tolist())

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 (batch, channels, height, width) -> float32 of the same shape, zero mean and unit deviation."""
        mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1)
        return (images.float() / self.white - mean) / std
