"""Images as one uint8 tensor a split: training, validation (all choices), test (touched once, at the end).

digits: scikit-learn's 1797 8x8 images, 20 % test and 16 % validation. CIFAR: the official 10000 test images, and
5000 of the 50000 training images for validation. Every split is stratified by class with a seed of its own, the
same in every run.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from nets.cifar import CIFAR10, CIFAR100, Release, read_cifar
from perspective.errors import InputError

SPLIT_SEED = 20_230_614  # of the splits only; a run's --seed never moves an image from one split to another


@final
@dataclass(frozen=True)
class Split:
    """images (count, channels, height, width) uint8, labels (count,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@final
@dataclass(frozen=True)
class Dataset:
    """Three splits and how to read them.

    white    the uint8 that stands for 1.0
    mean, std  per channel, in units of `white`
    padding  pixels of zero padding before the random crop of the augmentation
    flip     does the augmentation mirror half of the images?
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    white: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    padding: int
    flip: bool

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 (batch, channels, height, width) -> float32 of the same shape, zero mean and unit deviation."""
        mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1)
        return (images.float() / self.white - mean) / std

    @property
    def example_inputs(self) -> Tensor:
        """A few normalised validation images: for tracing, counting and comparing logits."""
        return self.normalise(self.validation.images[:8])

    def to(self, device: torch.device) -> "Dataset":
        """The same data set with its tensors on `device`."""
        train, validation, test = (
            Split(split.images.to(device), split.labels.to(device))
            for split in (self.train, self.validation, self.test)
        )
        return replace(self, train=train, validation=validation, test=test)


def load_data(name: str, data_dir: Path | None) -> Dataset:
    """The data set of that name on the CPU; unknown names, missing or altered files raise InputError."""
    loader = _LOADERS.get(name)
    if loader is None:
        raise InputError(f"unknown data {name!r}; choose one of {', '.join(_LOADERS)}")
    return loader(data_dir)


def stratified(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (rest, chosen), both sorted: `share` of every class is chosen, counts rounded per class."""
    generator = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        chosen.append(members[: round(share * len(members))])
    picked = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), picked), picked


def _digits(data_dir: Path | None) -> Dataset:
    if data_dir is not None:
        raise InputError("digits come with scikit-learn; leave --data-dir out")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = bunch.images.astype(np.uint8)[:, None], bunch.target.astype(np.int64)
    rest, test = stratified(labels, 0.20, SPLIT_SEED)
    kept, chosen = stratified(labels[rest], 0.16 / 0.80, SPLIT_SEED + 1)
    train = images[rest[kept]] / 16.0
    return Dataset(
        name="digits",
        train=_split(images, labels, rest[kept]),
        validation=_split(images, labels, rest[chosen]),
        test=_split(images, labels, test),
        classes=10,
        white=16.0,
        mean=(float(train.mean()),),
        std=(float(train.std()),),
        padding=1,
        flip=False,
    )


def _cifar(release: Release) -> Callable[[Path | None], Dataset]:
    def load(data_dir: Path | None) -> Dataset:
        if data_dir is None:
            raise InputError(
                f"--data {release.name} needs --data-dir, the folder with the official files ({release.page})"
            )
        (images, labels), (test_images, test_labels) = read_cifar(release, Path(data_dir))
        kept, chosen = stratified(labels, 0.10, SPLIT_SEED)
        return Dataset(
            name=release.name,
            train=_split(images, labels, kept),
            validation=_split(images, labels, chosen),
            test=_split(test_images, test_labels, np.arange(len(test_labels))),
            classes=release.classes,
            white=255.0,
            mean=(0.485, 0.456, 0.406),  # of ImageNet, as in the SPR paper's code and in the public CIFAR ResNets
            std=(0.229, 0.224, 0.225),
            padding=4,
            flip=True,
        )

    return load


_LOADERS: dict[str, Callable[[Path | None], Dataset]] = {
    "digits": _digits,
    "cifar10": _cifar(CIFAR10),
    "cifar100": _cifar(CIFAR100),
}


def _split(images: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> Split:
    return Split(torch.from_numpy(images[indices]), torch.from_numpy(labels[indices]))
