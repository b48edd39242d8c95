"""The official files are parsed without unpickling; whatever is missing, cut or altered is refused with a sentence."""

import hashlib
import os
import pickle
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nets.data import load_data
from nets.datasets.cifar import CIFAR10, CIFAR100, PIXELS, parse_binary, parse_pickled, read_cifar
from perspective import InputError

HERE = Path("batch")


def short(text):
    return b"U" + bytes([len(text)]) + text.encode()


def pickled(images, labels, key=b"labels"):
    """A batch in the opcodes of the official files: python 2, protocol 2, labels in runs of at most 3."""
    body = b"\x80\x02}q\x01(" + short("batch_label") + b"q\x02" + short("testing batch 1 of 1") + b"q\x03"
    body += short("data") + b"q\x04cnumpy.core.multiarray\n_reconstruct\nq\x05"
    body += b"T" + struct.pack("<i", images.size) + images.tobytes() + b"q\x06"
    body += short(key.decode()) + b"q\x07]q\x08"
    for start in range(0, len(labels), 3):
        body += b"(" + b"".join(b"K" + bytes([k]) for k in labels[start : start + 3]) + b"e"
    return body + short("filenames") + b"q\x09](" + b"K\x05" + b"eu."


@pytest.fixture
def batch():
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (7, 3, 32, 32), dtype=np.uint8), generator.integers(0, 10, 7)


def test_the_pickled_version_gives_images_and_labels(batch):
    images, labels = parse_pickled(pickled(*batch), CIFAR10, HERE)
    assert np.array_equal(images, batch[0])
    assert np.array_equal(labels, batch[1])
    assert labels.dtype == np.int64


def test_cifar100_takes_the_fine_labels(batch):
    images, labels = batch
    content = pickled(images, labels + 80, b"fine_labels")
    assert np.array_equal(parse_pickled(content, CIFAR100, HERE)[1], labels + 80)
    records = np.concatenate([np.full((7, 1), 3), labels[:, None] + 80, images.reshape(7, -1)], axis=1).astype(np.uint8)
    again, fine = parse_binary(records.tobytes(), CIFAR100, HERE)
    assert np.array_equal(again, images)
    assert np.array_equal(fine, labels + 80)


def test_the_binary_version_gives_the_same(batch):
    images, labels = batch
    records = np.concatenate([labels[:, None], images.reshape(7, -1)], axis=1).astype(np.uint8)
    again, read = parse_binary(records.tobytes(), CIFAR10, HERE)
    assert np.array_equal(again, images)
    assert np.array_equal(read, labels)


class Evil:
    ran = False

    def __reduce__(self):
        return (setattr, (Evil, "ran", True))


def test_nothing_in_a_pickle_is_executed():
    with pytest.raises(InputError, match="0 images"):
        parse_pickled(pickle.dumps({"data": Evil(), "labels": [1]}, protocol=2), CIFAR10, HERE)
    assert not Evil.ran


def test_cut_files_are_refused(batch):
    content = pickled(*batch)
    for cut in (0, 10, 100, len(content) // 2, len(content) - 30):
        with pytest.raises(InputError, match="download it again"):
            parse_pickled(content[:cut], CIFAR10, HERE)
    for cut in (b"", b"\0" * PIXELS, b"\0" * (2 * PIXELS + 3)):
        with pytest.raises(InputError, match="truncated"):
            parse_binary(cut, CIFAR10, HERE)
    with pytest.raises(InputError, match="labels outside"):
        parse_pickled(pickled(batch[0], batch[1] + 200), CIFAR10, HERE)
    with pytest.raises(InputError, match="7 images and 6 labels"):
        parse_pickled(pickled(batch[0], batch[1][:6]), CIFAR10, HERE)


def test_missing_and_altered_folders_are_refused(tmp_path, batch):
    with pytest.raises(InputError, match="no cifar10 files"):
        read_cifar(CIFAR10, tmp_path)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    content = pickled(*batch)
    (folder / "test_batch").write_bytes(content)
    with pytest.raises(InputError, match="data_batch_1 cannot be read"):
        read_cifar(CIFAR10, tmp_path)
    (folder / "data_batch_1").write_bytes(content)
    with pytest.raises(InputError, match="md5 differs"):
        read_cifar(CIFAR10, folder)
    # the right hashes, but far too few images
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    small = replace(CIFAR10, train={"data_batch_1": md5}, test={"test_batch": md5})
    with pytest.raises(InputError, match="7 training images, not 50000"):
        read_cifar(small, folder)


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("PERSPECTIVE_DATA"), reason="PERSPECTIVE_DATA names no folder with CIFAR-10")
def test_the_real_cifar10():
    folder = Path(os.environ["PERSPECTIVE_DATA"])
    data = load_data("cifar10", folder)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [45_000, 5_000, 10_000]
    assert np.bincount(data.validation.labels).tolist() == [500] * 10
    assert data.test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    # published channel means of the 50,000 training images
    whole = np.concatenate([data.train.images.numpy(), data.validation.images.numpy()]) / 255.0
    assert np.allclose(whole.mean((0, 2, 3)), [0.4914, 0.4822, 0.4465], atol=1e-4)
