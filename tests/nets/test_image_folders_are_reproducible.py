"""An image folder's splits are disjoint and fixed, an epoch is the same for any number of workers, bad folders are named."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from nets.data import load_data
from nets.datasets.batches import batches, epoch_generator, steps_per_epoch
from nets.training.evaluate import accuracy
from perspective import InputError

CLASSES = ("ant", "bee", "cat")
COUNT = 23  # training images of a class
SIZE = 16
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
forks = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # python 3.12 on; the workers only decode


def paint(folder, count, seed):
    """Pictures of 24x24, each of its own noise: no two are equal."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for index in range(count):
        pixels = generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.{'jpg' if index % 3 == 0 else 'png'}")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for label, name in enumerate(CLASSES):
        paint(folder / "train" / name, COUNT, label)
        paint(folder / "val" / name, 5, 100 + label)
    (folder / "train" / "ant" / "notes.txt").write_text("no picture")
    (folder / "val" / ".hidden").mkdir()
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy to be spoiled."""
    return shutil.copytree(made, tmp_path / "pictures")


@pytest.fixture(scope="module")
def data(made):
    return load_data("imagefolder", made, image_size=SIZE, workers=0)


def test_splits_are_disjoint_stratified_and_do_not_move(data, made):
    splits = (data.train, data.validation, data.test)
    assert [len(split) for split in splits] == [3 * (COUNT - 2), 6, 15]
    assert torch.bincount(data.validation.labels).tolist() == [2, 2, 2]
    paths = [path for split in splits for path in split.paths]
    assert len(set(paths)) == len(paths) == 3 * (COUNT + 5)
    assert all(path.startswith(str(made / "val")) for path in data.test.paths)
    assert all(path.startswith(str(made / "train")) for path in data.train.paths + data.validation.paths)
    for split in splits:
        assert all(f"/{CLASSES[label]}/" in path for path, label in zip(split.paths, split.labels, strict=True))
    again = load_data("imagefolder", made, image_size=SIZE, workers=0)
    assert again.validation.paths == data.validation.paths
    assert (data.classes, data.in_channels, data.image_size) == (3, 3, SIZE)


def test_a_test_folder_is_the_test_split_and_val_the_validation(folder):
    for label, name in enumerate(CLASSES):
        paint(folder / "test" / name, 2, 200 + label)
    data = load_data("imagefolder", folder, image_size=SIZE, workers=0)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [3 * COUNT, 15, 6]
    assert all(path.startswith(str(folder / "val")) for path in data.validation.paths)
    assert all(path.startswith(str(folder / "test")) for path in data.test.paths)


def by_hand(path, size):
    """Shorter side to 256/224 of the size, centre crop, ImageNet's mean and deviation: with PIL and numpy only."""
    larger = round(size * 256 / 224)
    first = round((larger - size) / 2)
    with Image.open(path) as file:
        picture = file.convert("RGB").resize((larger, larger), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, dtype=np.float64)[first : first + size, first : first + size] / 255
    return ((pixels - MEAN) / STD).transpose(2, 0, 1)


def test_evaluation_crops_the_centre(data):
    (images, labels), *rest = data.split_batches(data.test, 4)
    assert images.shape == (4, 3, SIZE, SIZE)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    for image, path in zip(images, data.test.paths, strict=False):
        assert np.abs(image.numpy() - by_hand(path, SIZE)).max() < 1e-5
    assert [len(y) for _, y in rest] == [4, 4, 3]
    assert torch.equal(torch.cat([labels, *(y for _, y in rest)]), data.test.labels)


def epoch(data, *key, batch_size=8):
    return list(batches(data, batch_size, epoch_generator(*key)))


def is_same(one, other):
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in pairs)


@forks
def test_an_epoch_is_the_same_for_any_number_of_workers_and_leaves_torch_alone(data, made):
    state = torch.get_rng_state()
    one, again = epoch(data, 0, "dense", 3), epoch(data, 0, "dense", 3)
    two = load_data("imagefolder", made, image_size=SIZE, workers=2)
    parallel = [epoch(two, 0, "dense", 3, batch_size=8), epoch(two, 0, "dense", 3)]
    plain = [list(d.split_batches(d.validation, 4)) for d in (data, two)]
    assert is_same(one, again)
    assert is_same(one, parallel[0])
    assert is_same(one, parallel[1])  # the workers of the first pass
    assert is_same(*plain)
    assert len(one) == steps_per_epoch(data, 8) == 8
    assert torch.equal(state, torch.get_rng_state())


def test_every_image_comes_once_and_epochs_differ_in_order_and_augmentation(data):
    one, other, phase = epoch(data, 0, "dense", 3), epoch(data, 0, "dense", 4), epoch(data, 0, "finetune", 3)
    labels = [torch.cat([y for _, y in batch]) for batch in (one, other, phase)]
    assert all(torch.equal(torch.bincount(y), torch.bincount(data.train.labels)) for y in labels)
    assert not torch.equal(labels[0], labels[1])
    assert not torch.equal(labels[0], labels[2])
    images = [{bytes(x.contiguous().numpy()) for x in torch.cat([x for x, _ in batch])} for batch in (one, other)]
    assert len(images[0]) == len(data.train)  # another crop of each
    assert not images[0] & images[1]


def test_augmentation_follows_the_image_and_not_its_place_in_the_epoch(data, monkeypatch):
    whole = torch.arange(len(data.train))
    found = []
    for order, size in ((whole, 8), (whole.flip(0), 19)):
        monkeypatch.setattr("nets.datasets.imagefolder.epoch_order", lambda n, b, g, o=order, s=size: list(o.split(s)))
        found.append(torch.cat([x for x, _ in epoch(data, 1, "dense", 0)]))
    assert torch.equal(found[0], found[1].flip(0))


def test_a_last_batch_of_one_is_left_out(data):
    assert [len(y) for _, y in epoch(data, 0, "dense", 0, batch_size=62)] == [62]
    assert steps_per_epoch(data, 62) == 1


def test_example_inputs_and_calibration_images_are_normalised_and_whole(data):
    assert data.example_inputs.shape == (6, 3, SIZE, SIZE)
    assert np.abs(data.example_inputs[1].numpy() - by_hand(data.validation.paths[1], SIZE)).max() < 1e-5
    images = data.training_images(5, seed=3)
    assert torch.equal(images, data.training_images(5, seed=3))
    assert not torch.equal(images, data.training_images(5, seed=4))
    whole = data.pick_training_images(range(len(data.train)))
    assert sum(any(torch.equal(image, other) for other in whole) for image in images) == 5
    assert len(torch.unique(data.training_images(len(data.train), 0), dim=0)) == len(data.train)
    for count, match in ((64, "63 training images; ask for fewer"), (0, "at least one")):
        with pytest.raises(InputError, match=match):
            data.training_images(count, 0)


def test_accuracy_counts_the_answers(data):
    class Bees(torch.nn.Module):
        def forward(self, x):
            return F.one_hot(torch.ones(len(x), dtype=torch.long), 3).float()

    assert accuracy(Bees(), data, data.test, batch_size=4) == pytest.approx(100 / 3)
    assert accuracy(Bees(), data, data.validation) == pytest.approx(100 / 3)


@forks
@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_named_and_the_next_pass_goes_on(folder, workers):
    broken = folder / "val" / "bee" / "002.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:200])
    data = load_data("imagefolder", folder, image_size=SIZE, workers=workers)
    with pytest.raises(InputError, match=r"bee/002\.png cannot be read as an image") as caught:
        list(data.split_batches(data.test, 4))
    assert "\n" not in str(caught.value)
    broken.write_bytes(whole)
    assert len(list(data.split_batches(data.test, 4))) == 4


@forks
@pytest.mark.parametrize("workers", [0, 2])
def test_two_passes_at_once_are_refused(made, workers):
    data = load_data("imagefolder", made, image_size=SIZE, workers=workers)
    outer = data.split_batches(data.test, 4)
    next(outer)
    assert len(list(data.split_batches(data.validation, 4))) == 2
    with pytest.raises(RuntimeError, match="another pass"):
        next(outer)


def remove(path):
    shutil.rmtree(path)


SPOILED = {
    "no folder": (lambda f: remove(f), "no folder .*train"),
    "no val": (lambda f: remove(f / "val"), "no folder .*val"),
    "no classes": (lambda f: [remove(f / "train" / name) for name in CLASSES], "0 class folders"),
    "one class": (lambda f: [remove(f / "train" / name) for name in CLASSES[1:]], "1 class folders"),
    "empty class": (lambda f: [file.unlink() for file in (f / "val" / "bee").iterdir()], "bee holds no images"),
    "class only in train": (lambda f: remove(f / "val" / "cat"), "'cat' in train and not in val"),
    "class only in val": (lambda f: remove(f / "train" / "cat"), "'cat' in val and not in train"),
    "class only in test": (lambda f: [paint(f / "test" / n, 1, 0) for n in (*CLASSES, "dog")], "'dog' in test"),
    "empty test": (lambda f: (f / "test").mkdir(), "test holds 0 class folders"),
    "too few": (
        lambda f: [x.unlink() for n in CLASSES for x in sorted((f / "train" / n).iterdir())[5:]],
        "at least six images a class",
    ),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_bad_folder_is_refused_with_one_sentence(folder, case):
    spoil, match = SPOILED[case]
    spoil(folder)
    with pytest.raises(InputError, match=match) as caught:
        load_data("imagefolder", folder, image_size=SIZE, workers=0)
    assert "\n" not in str(caught.value)


def test_bad_arguments_are_refused(made):
    for more, match in (
        ({"image_size": 0}, "image-size is 0"),
        ({"workers": -1}, "workers is -1"),
        ({"cutout": 4}, "leave --cutout out"),
    ):
        with pytest.raises(InputError, match=match):
            load_data("imagefolder", made, **more)
    with pytest.raises(InputError, match="needs --data-dir"):
        load_data("imagefolder", None)
    with pytest.raises(InputError, match="digits, cifar10, cifar100, imagefolder"):
        load_data("mnist", None)
