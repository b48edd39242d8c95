"""Cutout paints one clipped square an image, anywhere, seeded; without it the augmentation draws what it drew before."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nets.data import load_data
from nets.datasets.batches import augment, batches, cut_out, epoch_generator
from perspective import InputError


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", None)


@given(size=st.integers(1, 9), height=st.integers(1, 8), width=st.integers(1, 8), seed=st.integers(0, 2**32))
def test_the_painted_part_is_a_square_around_a_pixel_clipped_at_the_border(size, height, width, seed):
    images = torch.zeros(7, 2, height, width, dtype=torch.uint8)
    painted = cut_out(images, size, (3, 5), torch.Generator().manual_seed(seed))
    assert painted.dtype == torch.uint8
    assert painted.shape == images.shape
    for image in painted:
        assert torch.equal(image[0] != 0, image[1] != 0)
        assert set(image[0].unique().tolist()) <= {0, 3}
        assert set(image[1].unique().tolist()) <= {0, 5}
        squares = []
        for row in range(height):
            for column in range(width):
                mask = torch.zeros(height, width, dtype=torch.bool)
                top, left = row - size // 2, column - size // 2
                mask[max(top, 0) : top + size, max(left, 0) : left + size] = True
                squares.append(mask)
        assert any(torch.equal(mask, image[0] != 0) for mask in squares)


def test_every_pixel_is_a_centre_equally_often():
    images = torch.zeros(40_000, 1, 4, 5, dtype=torch.uint8)
    centres = cut_out(images, 1, (1,), torch.Generator().manual_seed(0)).sum((0, 1), dtype=torch.int64)
    assert centres.sum() == 40_000
    deviation = (centres - 2000) / (40_000 * 0.05 * 0.95) ** 0.5
    assert deviation.abs().max() < 4


def test_without_cutout_nothing_more_is_drawn_and_with_it_the_rest_stays(digits):
    images = digits.train.images[:50]
    generators = [epoch_generator(0, "dense", 1) for _ in range(4)]
    moved = augment(images, 1, True, generators[0])
    assert torch.equal(moved, augment(images, 1, True, generators[1], cutout=0, fill=(9,)))
    torch.randint(0, 3, (50, 2), generator=generators[3])  # rows and columns of the crop
    torch.rand(50, generator=generators[3])  # mirrors
    assert torch.equal(generators[0].get_state(), generators[3].get_state())
    assert torch.equal(generators[1].get_state(), generators[3].get_state())
    painted = augment(images, 1, True, generators[2], cutout=3, fill=(77,))
    assert not torch.equal(painted, moved)
    assert torch.equal(torch.where(painted == 77, moved, painted), moved)


def test_an_epoch_paints_with_the_mean_colour_and_repeats_itself(digits):
    """Normalised, the mean colour is 0 up to the rounding to a uint8."""
    data = load_data("digits", None, cutout=8)
    one, again = (list(batches(data, 400, epoch_generator(0, "dense", 1))) for _ in range(2))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(one, again, strict=True))
    colour = round(digits.mean[0] * digits.white) / digits.white
    paint = torch.tensor((colour - digits.mean[0]) / digits.std[0])
    plain = batches(digits, 400, epoch_generator(0, "dense", 1))
    for (images, labels), (others, same) in zip(one, plain, strict=True):
        assert len(images) == len(labels) == len(same) == len(others)
        share = ((images - paint).abs() < 1e-5).float().mean()
        assert share > 0.4  # a clipped 8x8 square of an 8x8 image leaves a quarter at least, on the average 56 %
    assert torch.equal(digits.test.images, data.test.images)


def test_impossible_sizes_are_refused(digits):
    for cutout in (-1, 9):
        with pytest.raises(InputError, match="between 0"):
            load_data("digits", None, cutout=cutout)
    with pytest.raises(InputError, match="leave --image-size out"):
        load_data("digits", None, image_size=32)
    assert load_data("digits", None, image_size=8).cutout == 0
    assert replace(digits, cutout=2).cutout == 2
