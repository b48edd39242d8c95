"""A folder of image files: DIR/train/CLASS/*, DIR/val/CLASS/* and, where there is one, DIR/test/CLASS/*.

With DIR/test, val is the validation split. Without, val is the test split, and 10 % of every class of train is the validation
split, by the split seed: no choice ever sees the test split. Pictures are cropped and normalised as torchvision does for
ImageNet; an epoch depends on (seed, phase, epoch) only, each picture's augmentation on its place in the training split too.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from nets.datasets.batches import epoch_order
from nets.datasets.images import Batch, Images
from nets.datasets.picture_reader import PictureReader
from nets.datasets.splits import SPLIT_SEED, stratified
from perspective.errors import InputError

IMAGE_SIZE = 224
MOST_WORKERS = 8  # that are started unasked
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")  # other files are passed over
LAYOUT = "it must hold train/CLASS/*.jpg (or .png, ...) and val/CLASS/*.jpg"


@final
@dataclass(frozen=True)
class FolderSplit:
    """Paths, and labels (count,) int64 on the CPU: positions in the sorted class names."""

    paths: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.paths)


@final
@dataclass(frozen=True)
class ImageFolder(Images):
    """Three splits on the disk. workers: processes that read; they change the speed only."""

    class_names: tuple[str, ...]
    train: FolderSplit
    validation: FolderSplit
    test: FolderSplit
    image_size: int
    workers: int
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    name: str = "imagefolder"
    in_channels: int = 3
    white: float = 255.0
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)  # of ImageNet
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    evaluation_batch: int = 128

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.class_names)

    @cached_property
    def reader(self) -> PictureReader:
        """Of this data set on this device; its workers are kept from pass to pass."""
        return PictureReader(self.image_size, self.workers, pinned=self.device.type == "cuda")

    def train_batches(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """See Images. The batches are channels_last in memory."""
        order = epoch_order(len(self.train), batch_size, generator)
        seeds = torch.randint(0, 2**62, (len(self.train),), generator=generator)
        asked = ([(self.train.paths[i], int(seeds[i])) for i in picked.tolist()] for picked in order)
        for picked, images in zip(order, self.reader.read(asked), strict=True):
            yield self._placed(images), self.train.labels[picked].to(self.device)

    def split_batches(self, split: FolderSplit, batch_size: int) -> Iterator[Batch]:
        """See Images. The batches are channels_last in memory."""
        starts = range(0, len(split), batch_size)
        asked = ([(path, None) for path in split.paths[start : start + batch_size]] for start in starts)
        for labels, images in zip(split.labels.split(batch_size), self.reader.read(asked), strict=True):
            yield self._placed(images), labels.to(self.device)

    @cached_property
    def example_inputs(self) -> Tensor:
        """At most eight validation images, spread over the split (it is sorted by class)."""
        spread = np.linspace(0, len(self.validation) - 1, min(8, len(self.validation)))
        return self._read_here([self.validation.paths[round(i)] for i in spread])

    def pick_training_images(self, indices: Sequence[int]) -> Tensor:
        """See Images."""
        return self._read_here([self.train.paths[i] for i in indices])

    def to(self, device: torch.device) -> "ImageFolder":
        """The same folder with its batches on `device`."""
        return replace(self, device=device)

    def _placed(self, images: Tensor) -> Tensor:
        return self.normalise(images.to(self.device, non_blocking=True))

    def _read_here(self, paths: Sequence[str]) -> Tensor:
        return self._placed(self.reader.read_here([(path, None) for path in paths])).contiguous()


def load_image_folder(folder: Path | None, image_size: int = IMAGE_SIZE, workers: int | None = None) -> ImageFolder:
    """The image folder on the CPU; nothing is decoded yet. workers: None for one a core, at most eight.

    InputError: no such folder, no classes, a class without images, other classes in val or test than in train.
    """
    if folder is None:
        raise InputError(f"--data imagefolder needs --data-dir, a folder; {LAYOUT}")
    if image_size < 1:
        raise InputError(f"--image-size is {image_size}; it must be at least 1 pixel")
    if workers is not None and workers < 0:
        raise InputError(f"--workers is {workers}; it must be at least 0")
    names = _class_names(folder, "train")
    train, val = _read_split(folder, "train", names), _read_split(folder, "val", names)
    if (folder / "test").exists():
        validation, test = val, _read_split(folder, "test", names)
    else:
        rest, chosen = stratified(train.labels.numpy(), 0.10, SPLIT_SEED)
        if not len(chosen):
            raise InputError(
                f"the classes of {folder / 'train'} are too small to take 10 % of each for validation; give at least six "
                f"images a class, or a folder {folder / 'test'} (val is the validation split then)"
            )
        train, validation, test = _pick(train, rest), _pick(train, chosen), val
    return ImageFolder(
        class_names=names,
        train=train,
        validation=validation,
        test=test,
        image_size=image_size,
        workers=min(MOST_WORKERS, os.cpu_count() or 1) if workers is None else workers,
    )


def _class_names(folder: Path, split: str) -> tuple[str, ...]:
    place = folder / split
    if not place.is_dir():
        raise InputError(f"no folder {place}; --data-dir is the image folder, {LAYOUT}")
    names = tuple(sorted(entry.name for entry in place.iterdir() if entry.is_dir() and not entry.name.startswith(".")))
    if len(names) < 2:
        raise InputError(f"{place} holds {len(names)} class folders, and two are the least; {LAYOUT}")
    return names


def _read_split(folder: Path, split: str, names: tuple[str, ...]) -> FolderSplit:
    """The images of one split, class by class, sorted by file name."""
    present = _class_names(folder, split)
    if present != names:
        odd = min(set(present) ^ set(names))
        where = ("train", split) if odd in names else (split, "train")
        raise InputError(
            f"{folder} has the class {odd!r} in {where[0]} and not in {where[1]}; every split must have the same class folders"
        )
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        with os.scandir(folder / split / name) as entries:
            found = sorted(e.path for e in entries if e.name.lower().endswith(SUFFIXES) and not e.name.startswith("."))
        if not found:
            raise InputError(
                f"the class folder {folder / split / name} holds no images; fill it, or take the class out of every split"
            )
        paths += found
        labels += [label] * len(found)
    return FolderSplit(tuple(paths), torch.tensor(labels))


def _pick(split: FolderSplit, indices: np.ndarray) -> FolderSplit:
    return FolderSplit(tuple(split.paths[i] for i in indices), split.labels[torch.from_numpy(indices)])
