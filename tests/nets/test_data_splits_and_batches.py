"""Splits are disjoint, stratified and the same in every run; an epoch's batches depend on (seed, phase, epoch) only."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from nets.data import load_data, stratified
from nets.datasets.batches import augment, batches, epoch_generator, steps_per_epoch
from nets.training.evaluate import accuracy
from perspective import InputError


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", None)


def test_the_three_splits_are_all_digits_once(digits):
    splits = (digits.train, digits.validation, digits.test)
    assert [len(split) for split in splits] == [1151, 287, 359]
    together = torch.cat([split.images.flatten(1) for split in splits])
    whole = load_digits().data.astype(np.uint8)
    assert sorted(map(bytes, together.numpy())) == sorted(map(bytes, whole))
    for split in splits:
        shares = torch.bincount(split.labels, minlength=10) / len(split)
        assert (shares - 0.1).abs().max() < 0.01


def test_splits_do_not_move(digits):
    again = load_data("digits", None)
    assert torch.equal(digits.test.images, again.test.images)
    assert int(digits.test.images.long().sum()) == int(again.test.images.long().sum())


def test_stratified_takes_the_share_of_every_class():
    labels = np.repeat([3, 5, 9], [10, 20, 100])
    rest, chosen = stratified(labels, 0.3, seed=1)
    assert [int((labels[chosen] == label).sum()) for label in (3, 5, 9)] == [3, 6, 30]
    assert sorted([*rest, *chosen]) == list(range(130))
    assert not np.array_equal(chosen, stratified(labels, 0.3, seed=2)[1])


def test_normalised_training_images_are_standardised(digits):
    x = digits.normalise(digits.train.images).double()
    assert x.dtype == torch.float64
    assert abs(float(x.mean())) < 1e-6
    assert abs(float(x.std()) - 1) < 1e-3


def by_hand(image, top, left, mirrored, padding):
    """The crop one pixel at a time."""
    channels, height, width = image.shape
    out = torch.zeros_like(image)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                row, column = i + top - padding, left - padding + (width - 1 - j if mirrored else j)
                if 0 <= row < height and 0 <= column < width:
                    out[c, i, j] = image[c, row, column]
    return out


@pytest.mark.parametrize(("padding", "flip"), [(1, False), (2, True)])
def test_augmentation_is_crop_and_flip(padding, flip):
    images = torch.randint(0, 255, (6, 2, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    moved = augment(images, padding, flip, epoch_generator(1, "dense", 2))
    assert moved.dtype == torch.uint8
    shifts = range(2 * padding + 1)
    used = set()
    for image, result in zip(images, moved, strict=True):
        found = [
            (top, left, mirrored)
            for top in shifts
            for left in shifts
            for mirrored in ((False, True) if flip else (False,))
            if torch.equal(by_hand(image, top, left, mirrored, padding), result)
        ]
        assert found
        used.add(found[0])
    assert len(used) > 2


def test_an_epoch_visits_every_image_once_and_repeats_itself(digits):
    def epoch(*key):
        return list(batches(digits, 100, epoch_generator(*key)))

    one, again, other, phase = epoch(0, "dense", 3), epoch(0, "dense", 3), epoch(0, "dense", 4), epoch(0, "finetune", 3)
    assert len(one) == steps_per_epoch(digits, 100) == 12
    labels = torch.cat([y for _, y in one])
    assert torch.equal(torch.bincount(labels), torch.bincount(digits.train.labels))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(one, again, strict=True))
    assert not torch.equal(labels, torch.cat([y for _, y in other]))
    assert not torch.equal(labels, torch.cat([y for _, y in phase]))


def test_a_last_batch_of_one_is_left_out(digits):
    sizes = [len(y) for _, y in batches(digits, 1150, epoch_generator(0, "dense", 0))]
    assert sizes == [1150]
    assert steps_per_epoch(digits, 1150) == 1


def test_accuracy_counts_the_answers(digits):
    class Sevens(torch.nn.Module):
        def forward(self, x):
            return torch.eye(10)[torch.full((len(x),), 7)]

    share = 100.0 * float((digits.test.labels == 7).sum()) / len(digits.test)
    assert accuracy(Sevens(), digits, digits.test, batch_size=7) == pytest.approx(share)


def test_unknown_data_and_unused_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="digits, cifar10, cifar100"):
        load_data("mnist", None)
    with pytest.raises(InputError, match="leave --data-dir out"):
        load_data("digits", tmp_path)
    with pytest.raises(InputError, match="needs --data-dir"):
        load_data("cifar10", None)
