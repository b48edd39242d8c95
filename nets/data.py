"""Images as one uint8 tensor a split: training, validation (all choices), test (touched once, at the end).

digits: scikit-learn's 1797 8x8 images, 20 % test and 16 % validation. CIFAR: the official 10000 test images, and
5000 of the 50000 training images for validation. Every split is stratified by class with a seed of its own, the
same in every run. Folders of image files are read by nets/datasets/imagefolder.py.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from nets.datasets.batches import augment, epoch_order
from nets.datasets.cifar import CIFAR10, CIFAR100, Release, read_cifar
from nets.datasets.imagefolder import IMAGE_SIZE, load_image_folder
from nets.datasets.images import Batch, Images
from nets.datasets.splits import SPLIT_SEED, stratified
from perspective.errors import InputError


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
class Dataset(Images):
    """Three splits in memory and how to read them.

    white    the uint8 that stands for 1.0
    mean, std  per channel, in units of `white`
    padding  pixels of zero padding before the random crop of the augmentation
    flip     does the augmentation mirror half of the images?
    cutout   pixels of a side of the square that the augmentation paints over with the mean colour; 0: none
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
    cutout: int = 0

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.train.images.device

    @property
    def in_channels(self) -> int:
        """Colours of a pixel."""
        return self.train.images.shape[1]

    @property
    def image_size(self) -> int:
        """Pixels of a side."""
        return self.train.images.shape[2]

    def train_batches(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """See Images."""
        colour = [round(mean * self.white) for mean in self.mean]
        for picked in epoch_order(len(self.train), batch_size, generator):
            picked = picked.to(self.device)
            images = augment(self.train.images[picked], self.padding, self.flip, generator, self.cutout, colour)
            yield self.normalise(images), self.train.labels[picked]

    def split_batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """See Images."""
        for images, labels in zip(split.images.split(batch_size), split.labels.split(batch_size), strict=True):
            yield self.normalise(images), labels

    @property
    def example_inputs(self) -> Tensor:
        """A few normalised validation images: for tracing, counting and comparing logits."""
        return self.normalise(self.validation.images[:8])

    def pick_training_images(self, indices: Sequence[int]) -> Tensor:
        """See Images."""
        return self.normalise(self.train.images[torch.tensor(indices, device=self.device)])

    def to(self, device: torch.device) -> "Dataset":
        """The same data set with its tensors on `device`."""
        train, validation, test = (
            Split(split.images.to(device), split.labels.to(device))
            for split in (self.train, self.validation, self.test)
        )
        return replace(self, train=train, validation=validation, test=test)


def load_data(
    name: str, data_dir: Path | None, image_size: int | None = None, cutout: int = 0, workers: int | None = None
) -> Images:
    """The data set of that name on the CPU; unknown names, missing or altered files raise InputError.

    image_size, workers: of an image folder (nets/datasets/imagefolder.py); cutout: of the data sets in memory.
    """
    if name == IMAGEFOLDER:
        if cutout:
            raise InputError(
                "cutout is made for digits and CIFAR, an image folder is cropped instead; leave --cutout out"
            )
        return load_image_folder(data_dir, IMAGE_SIZE if image_size is None else image_size, workers)
    loader = _LOADERS.get(name)
    if loader is None:
        raise InputError(f"unknown data {name!r}; choose one of {', '.join((*_LOADERS, IMAGEFOLDER))}")
    dataset = loader(data_dir)
    side = dataset.image_size
    if image_size not in (None, side):
        raise InputError(f"the images of {name} have {side}x{side} pixels, not {image_size}; leave --image-size out")
    if not 0 <= cutout <= side:
        raise InputError(f"--cutout is {cutout}; it must be a number of pixels between 0 (off) and {side}")
    return replace(dataset, cutout=cutout)


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


IMAGEFOLDER = "imagefolder"
_LOADERS: dict[str, Callable[[Path | None], Dataset]] = {
    "digits": _digits,
    "cifar10": _cifar(CIFAR10),
    "cifar100": _cifar(CIFAR100),
}


def _split(images: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> Split:
    return Split(torch.from_numpy(images[indices]), torch.from_numpy(labels[indices]))
