"""Read the official CIFAR-10 and CIFAR-100 files without unpickling them.

The python version stores each batch as a pickle. Its opcodes are walked with pickletools.genops, which executes
nothing: the one long string is the images, the integers after the key "labels" (CIFAR-100: "fine_labels") are the
labels. The md5 of every file is checked first. The binary version (label byte or bytes, then 3072 image bytes, per
record) is read as it is.
"""

import hashlib
import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from perspective.errors import InputError

PIXELS = 3 * 32 * 32


@final
@dataclass(frozen=True)
class Release:
    """One data set's official files: name -> md5 for the python version, names for the binary version."""

    name: str
    classes: int
    label_key: str
    label_bytes: int  # binary version: label bytes of a record, the last one counts
    folders: tuple[str, str]  # python version, binary version
    train: dict[str, str]
    test: dict[str, str]
    binary_train: tuple[str, ...]
    binary_test: tuple[str, ...]
    page: str = "https://www.cs.toronto.edu/~kriz/cifar.html"


CIFAR10 = Release(
    name="cifar10",
    classes=10,
    label_key="labels",
    label_bytes=1,
    folders=("cifar-10-batches-py", "cifar-10-batches-bin"),
    train={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    },
    test={"test_batch": "40351d587109b95175f43aff81a1287e"},
    binary_train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    binary_test=("test_batch.bin",),
)
CIFAR100 = Release(
    name="cifar100",
    classes=100,
    label_key="fine_labels",
    label_bytes=2,
    folders=("cifar-100-python", "cifar-100-binary"),
    train={"train": "16019d7e3df5f24257cddd939b257f8d"},
    test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    binary_train=("train.bin",),
    binary_test=("test.bin",),
)

# the opcodes a batch is made of
TEXTS = {"SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES", "BINBYTES", "BINUNICODE", "SHORT_BINUNICODE"}
INTEGERS = {"BININT1", "BININT2", "BININT", "INT"}
INSIDE_A_LIST = {"EMPTY_LIST", "BINPUT", "LONG_BINPUT", "MEMOIZE", "MARK", "APPENDS", "APPEND"}

Pair = tuple[np.ndarray, np.ndarray]


def read_cifar(release: Release, folder: Path) -> tuple[Pair, Pair]:
    """((50000, 3, 32, 32) uint8 images, (50000,) int64 labels) for training, and 10000 of them for testing.

    `folder` is the folder that holds the files, or its parent. InputError: missing, truncated or altered files.
    """
    found = _find(release, folder)
    if (found / release.binary_test[0]).is_file():
        train, test = (
            _joined([parse_binary(_bytes(found / name), release, found / name) for name in names])
            for names in (release.binary_train, release.binary_test)
        )
    else:
        train, test = (
            _joined([parse_pickled(_checked(found / name, md5), release, found / name) for name, md5 in names.items()])
            for names in (release.train, release.test)
        )
    for what, (_, labels), count in (("training", train, 50_000), ("test", test, 10_000)):
        if len(labels) != count:
            raise InputError(
                f"{found} holds {len(labels)} {what} images, not {count}; download it again: {release.page}"
            )
    return train, test


def parse_binary(content: bytes, release: Release, path: Path) -> Pair:
    """Images and labels of one file of the binary version."""
    record = release.label_bytes + PIXELS
    if not content or len(content) % record:
        raise InputError(
            f"{path} is truncated: {len(content)} bytes are not a whole number of records; download it again"
        )
    table = np.frombuffer(content, dtype=np.uint8).reshape(-1, record)
    return _pair(table[:, release.label_bytes :], table[:, release.label_bytes - 1], release, path)


def parse_pickled(content: bytes, release: Release, path: Path) -> Pair:
    """Images and labels of one file of the python version; opcodes are read, never executed."""
    pixels, collecting = b"", False
    labels: list[int] = []
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name in TEXTS:
                text = argument if isinstance(argument, str) else bytes(argument or b"").decode("latin-1")
                collecting = text == release.label_key
                if len(text) > len(pixels) and len(text) % PIXELS == 0:
                    pixels = text.encode("latin-1")
            elif collecting and opcode.name in INTEGERS:
                labels.append(int(argument or 0))
            elif collecting and opcode.name not in INSIDE_A_LIST:
                collecting = False
    except (ValueError, UnicodeError) as error:
        raise InputError(f"{path} is not a CIFAR batch, or is truncated ({error}); download it again") from error
    return _pair(np.frombuffer(pixels, dtype=np.uint8).reshape(-1, PIXELS), np.array(labels), release, path)


def _pair(pixels: np.ndarray, labels: np.ndarray, release: Release, path: Path) -> Pair:
    if len(pixels) != len(labels) or not len(labels):
        raise InputError(
            f"{path} holds {len(pixels)} images and {len(labels)} labels; download it again: {release.page}"
        )
    labels = labels.astype(np.int64)
    if labels.min() < 0 or labels.max() >= release.classes:
        raise InputError(f"{path} has labels outside 0..{release.classes - 1}; download it again: {release.page}")
    return pixels.reshape(-1, 3, 32, 32).copy(), labels


def _joined(pairs: list[Pair]) -> Pair:
    return np.concatenate([images for images, _ in pairs]), np.concatenate([labels for _, labels in pairs])


def _find(release: Release, folder: Path) -> Path:
    for candidate in (folder, *(folder / name for name in release.folders)):
        if (candidate / next(iter(release.test))).is_file() or (candidate / release.binary_test[0]).is_file():
            return candidate
    raise InputError(
        f"no {release.name} files in {folder}; unpack the official archive ({release.page}) there, "
        f"or give --data-dir the folder that holds {release.folders[0]}"
    )


def _checked(path: Path, md5: str) -> bytes:
    content = _bytes(path)
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise InputError(f"{path} is not the official file (its md5 differs; truncated or altered); download it again")
    return content


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); download or unpack it again") from error
