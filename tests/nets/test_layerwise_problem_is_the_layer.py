"""A layer's problem is the layer: its loss is the layer's own output error, whatever the stride, padding and dilation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nets.certification.calibration import collect_inputs, prunable_layers
from nets.certification.layer_rows import layer_rows, reduce_rows, sample_rows
from nets.layerwise import layer_problem
from nets.resnet import resnet20
from perspective import InputError

ALL = 10_000  # positions: more than there are


def rows_of(module, x, positions=ALL, seed=0, channels=None):
    return layer_rows(module, sample_rows(module, x, positions, np.random.default_rng(seed)), channels)


def loss(data, W):
    return np.sum((data.inputs @ W - data.targets) ** 2)


@st.composite
def convolutions(draw):
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 4)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 2)))
    padding = draw(st.sampled_from(["valid", (0, 2), (1, 1), (2, 0)] + (["same"] if stride == (1, 1) else [])))
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    torch.manual_seed(draw(st.integers(0, 99)))
    with_bias = draw(st.booleans())
    conv = nn.Conv2d(3, 2, kernel, stride, padding, dilation, bias=with_bias, padding_mode=mode).double()
    return conv, torch.randn(2, 3, 9, 10, dtype=torch.float64)


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@settings(max_examples=60, deadline=None)
@given(convolutions(), st.lists(st.booleans(), min_size=3, max_size=3))
def test_loss_is_the_output_error_of_the_masked_layer(case, kept):
    conv, x = case
    data = rows_of(conv, x)
    with torch.no_grad():
        whole, masked = conv(x), conv(x * torch.tensor(kept)[None, :, None, None])
    expected = float(((masked - whole) ** 2).sum())
    W = data.weights * np.array(kept)[data.groups][:, None]
    scale = float((whole**2).sum())
    assert loss(data, W) == pytest.approx(expected, rel=1e-10, abs=1e-12 * scale)
    assert loss(reduce_rows(data), W) == pytest.approx(expected, rel=1e-9, abs=1e-10 * scale)
    assert data.samples == whole.numel() // 2


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("dilation", [1, 3])
def test_same_padding_of_an_even_kernel_is_the_layers_own(dilation):
    torch.manual_seed(4)
    conv = nn.Conv2d(2, 3, (2, 4), padding="same", dilation=dilation).double()
    x = torch.randn(2, 2, 7, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = (conv(x) - conv.bias[:, None, None]).permute(0, 2, 3, 1).flatten(0, 2).numpy()
    assert rows_of(conv, x).targets == pytest.approx(expected, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 9))
def test_sampled_rows_are_different_patches_of_each_image(positions, seed):
    torch.manual_seed(1)
    conv, x = nn.Conv2d(2, 1, 3, padding=1), torch.randn(3, 2, 5, 5)
    found = sample_rows(conv, x, positions, np.random.default_rng(seed)).reshape(3, -1, 18)
    assert found.shape[1] == min(positions, 25)
    every = F.unfold(x.double(), 3, padding=1).transpose(1, 2).numpy()
    for rows, patches in zip(found, every, strict=True):
        places = [int(np.flatnonzero((patches == row).all(1))[0]) for row in rows]
        assert len(set(places)) == len(rows)


def test_a_linear_layer_at_every_place_of_a_picture_gives_a_row_for_each_place():
    linear, x = nn.Linear(3, 2), torch.randn(2, 4, 5, 3)  # (batch, height, width, features), as in a ConvNeXt
    found = sample_rows(linear, x, 100, np.random.default_rng(0)).reshape(2, 20, 3)
    for rows, image in zip(found, x.double().flatten(1, 2).numpy(), strict=True):
        assert sorted(rows.tolist()) == sorted(image.tolist())


def test_batches_sample_the_same_rows_as_all_images_at_once():
    conv, x = nn.Conv2d(2, 1, 3), torch.randn(7, 2, 6, 6)
    whole = sample_rows(conv, x, 4, np.random.default_rng(5))
    generator = np.random.default_rng(5)
    parts = [sample_rows(conv, part, 4, generator) for part in x.split(3)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert not np.array_equal(whole, sample_rows(conv, x, 4, np.random.default_rng(6)))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 3))
def test_fewer_rows_keep_every_value_to_ten_digits(seed, images, outputs):
    random = np.random.default_rng(seed)
    layer = nn.Linear(6, outputs).double()
    x = torch.from_numpy(random.normal(size=(images, 6)) * 10.0 ** random.uniform(-2, 2, size=6))
    data = rows_of(layer, x)
    data.targets[:] += random.normal(size=data.targets.shape)  # so that something is left over
    fewer = reduce_rows(data)
    assert len(fewer.inputs) <= 7
    assert fewer.samples == images
    for W in (np.zeros((6, outputs)), data.weights, random.normal(size=(6, outputs))):
        assert loss(fewer, W) == pytest.approx(loss(data, W), rel=1e-10)
        per_output = np.sum((data.inputs @ W - data.targets) ** 2, axis=0)
        assert np.sum((fewer.inputs @ W - fewer.targets) ** 2, axis=0) == pytest.approx(per_output, rel=1e-9)


def test_a_linear_layer_behind_a_flattening_loses_whole_channels():
    torch.manual_seed(0)
    layer, maps = nn.Linear(3 * 4, 5).double(), torch.randn(6, 3, 2, 2, dtype=torch.float64)
    data = rows_of(layer, maps.flatten(1), channels=3)
    kept = np.array([True, False, True])
    masked = layer((maps * torch.tensor(kept)[None, :, None, None]).flatten(1)) - layer(maps.flatten(1))
    assert loss(data, data.weights * kept[data.groups][:, None]) == pytest.approx(
        float((masked.detach() ** 2).sum()), rel=1e-10
    )
    tokens = torch.randn(2, 7, 12, dtype=torch.float64)
    assert sample_rows(layer, tokens, 3, np.random.default_rng(0)).shape == (6, 12)


def test_the_problem_has_the_loss_and_the_price_said():
    torch.manual_seed(2)
    conv, x = nn.Conv2d(6, 4, 3, padding=1), torch.randn(20, 6, 6, 6)
    problem = layer_problem(conv, x, keep=3, positions=8, seed=3)
    data = rows_of(conv, x, 8, 3)
    assert (problem.n_groups, problem.X.shape, problem.targets2d.shape[1]) == (6, (55, 54), 4)
    kept = np.array([1, 0, 1, 1, 0, 0], dtype=bool)[data.groups][:, None]
    assert problem.loss_value(data.weights * kept) == pytest.approx(loss(data, data.weights * kept), rel=1e-10)
    ridge = 1e-4 * np.mean(np.sum(data.inputs**2, axis=0))
    assert problem.strength * problem.regulariser.quadratic[0] == pytest.approx(ridge, rel=1e-9)
    full = np.linalg.solve(data.inputs.T @ data.inputs + ridge * np.eye(54), data.inputs.T @ data.targets)
    assert problem.regulariser.bound == pytest.approx(3 * np.abs(full).max(), rel=1e-8)

    def refit(groups):
        columns = np.isin(data.groups, list(groups))
        A = np.vstack([data.inputs[:, columns], np.sqrt(ridge) * np.eye(columns.sum())])
        b = np.vstack([data.targets, np.zeros((columns.sum(), 4))])
        return np.sum((A @ np.linalg.lstsq(A, b, rcond=None)[0] - b) ** 2)

    path, left = {6: refit(range(6))}, set(range(6))
    while left:
        left = min((left - {j} for j in left), key=refit)
        path[len(left)] = refit(left)
    charge = problem.strength * problem.regulariser.price
    assert charge == pytest.approx((path[2] - path[4]) / 2, rel=1e-6)
    share = layer_problem(conv, x, keep=0.5, positions=8, seed=3)
    assert share.strength * share.regulariser.price == pytest.approx(charge, rel=1e-12)
    priced = layer_problem(conv, x, price=0.01, positions=8, seed=3)
    assert priced.strength * priced.regulariser.price == pytest.approx(0.01 * np.sum(data.targets**2), rel=1e-9)


def test_a_count_as_constraint_has_a_negligible_price():
    torch.manual_seed(2)
    conv, x = nn.Conv2d(4, 3, 3), torch.randn(10, 4, 6, 6)
    problem = layer_problem(conv, x, at_most=2)
    assert problem.at_most == 2
    data = rows_of(conv, x, 20)
    W = data.weights * (data.groups < 3)[:, None]
    assert problem.objective(W) == np.inf
    W = W * (data.groups < 2)[:, None]
    assert problem.objective(W) < np.inf
    assert 4 * problem.strength * problem.regulariser.price < 1e-5 * loss(data, W)


@pytest.mark.parametrize(
    ("module", "x", "words"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), torch.ones(1, 4, 8, 8), "2 groups"),
        (nn.ReLU(), torch.ones(1, 4), "give a Conv2d or a Linear"),
        (nn.Conv2d(4, 4, 3), torch.ones(1, 3, 8, 8), "does not read"),
        (nn.Conv2d(4, 4, 3), torch.ones(4, 8, 8), "does not read"),
        (nn.Conv2d(4, 4, 3), torch.ones(1, 4, 2, 8), "smaller than the kernel"),
        (nn.Conv2d(4, 4, 3), torch.full((1, 4, 8, 8), torch.nan), "NaN"),
        (nn.Conv2d(4, 4, 3), torch.zeros(1, 4, 8, 8), "all zero"),
        (nn.Linear(4, 4), torch.ones(2, 5), "does not read"),
    ],
)
def test_layers_that_do_not_fit_are_refused(module, x, words):
    with pytest.raises(InputError, match=words):
        layer_problem(module, x)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"keep": 0.5, "price": 0.1}, "exactly one"),
        ({"keep": 9}, "the layer has 4"),
        ({"keep": 1.5}, "whole number"),
        ({"price": 0.0}, "positive"),
        ({"ridge": -1.0}, "positive"),
        ({"positions": 0}, "at least 1"),
    ],
)
def test_questions_that_make_no_sense_are_refused(asked, words):
    with pytest.raises(InputError, match=words):
        layer_problem(nn.Conv2d(4, 4, 3), torch.randn(3, 4, 8, 8), **asked)


def test_the_second_convolution_of_every_block_is_prunable():
    found = prunable_layers(resnet20(width=4), torch.randn(2, 3, 32, 32))
    assert found == {f"layer{s}.{b}.conv2": 2 ** (s + 1) for s in (1, 2, 3) for b in range(3)}


class Forked(nn.Module):
    """conv1 is read by two convolutions; the pooled end by a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv1, self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 1), nn.Conv2d(4, 5, 1)
        self.deep, self.relu = nn.Conv2d(5, 6, 3), nn.ReLU(inplace=True)
        self.norm, self.end, self.pool = nn.BatchNorm2d(6), nn.Linear(24, 2), nn.AdaptiveAvgPool2d(2)

    def forward(self, x):
        x = self.conv1(x)
        x = self.relu(self.norm(self.deep(self.left(x) + self.right(x))))
        return self.end(torch.flatten(self.pool(x), 1))


def test_channels_that_two_layers_read_or_write_are_left_alone():
    assert prunable_layers(Forked(), torch.randn(2, 3, 9, 9)) == {"end": 6}
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU())
    assert prunable_layers(plain, torch.randn(1, 3, 9, 9)) == {"3": 4}


class Overwriting(nn.Module):
    """Works in place on what its layer has read."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 2)

    def forward(self, x):
        x = x[:, 0, 0].clone()
        y = self.layer(x)
        x.mul_(2)
        return y


def test_collecting_changes_nothing_and_survives_work_in_place():
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
    model = nn.Sequential(first, nn.BatchNorm2d(4), second, nn.ReLU(inplace=True), nn.Dropout(0.5)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = torch.randn(300, 3, 8, 8)
    found = collect_inputs(model, images)
    assert list(found) == ["2"]
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not second._forward_pre_hooks
    model.eval()
    with torch.no_grad():
        assert torch.allclose(found["2"], model[1](model[0](images)), atol=1e-6)
    spoiled = collect_inputs(Overwriting(), images, ["layer"])["layer"]
    assert torch.equal(spoiled, images[:, 0, 0])
    with pytest.raises(InputError, match="no layer 'x'"):
        collect_inputs(model, images, ["x"])
    with pytest.raises(InputError, match="at least one image"):
        collect_inputs(model, images[:0])
