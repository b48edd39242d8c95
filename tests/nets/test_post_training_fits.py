"""The refit of a layer is the least squares optimum, the trained weights where nothing is missing, and what the layer does."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nets.layerwise import choose_channels
from nets.post_training.reconstruct import Fit, fit_behind_relu, fit_columns, gather_rows, read_fit, write_fit
from perspective import InputError


def layer_data(seed, samples=60, d=6, outputs=3):
    generator = np.random.default_rng(seed)
    mix = generator.normal(size=(d, d))
    inputs = generator.normal(size=(samples, d)) @ mix + generator.normal(size=d)
    trained = Fit(generator.normal(size=(d, outputs)), generator.normal(size=outputs))
    return torch.from_numpy(inputs), torch.from_numpy(inputs @ trained.weights + trained.shift), trained, generator


def slope(fit, inputs, targets, trained, kept, ridge):
    """Gradient of ||X W + c - Y||^2 + ridge ||W - W0||^2 by automatic differentiation, on the kept columns and c."""
    W = torch.from_numpy(fit.weights).requires_grad_(True)
    c = torch.from_numpy(fit.shift).requires_grad_(True)
    start = torch.from_numpy(np.where(kept[:, None], trained.weights, 0.0))
    (((inputs @ W + c - targets) ** 2).sum() + ridge * ((W - start) ** 2).sum()).backward()
    return np.abs(W.grad.numpy()[kept]).max(), np.abs(c.grad.numpy()).max()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_the_refit_solves_its_normal_equations_and_uses_no_other_column(seed, count):
    inputs, _, trained, generator = layer_data(seed)
    targets = torch.from_numpy(generator.normal(size=(60, 3)))
    kept = np.isin(np.arange(6), generator.permutation(6)[:count])
    rows = gather_rows(inputs)
    fit = fit_columns(rows, targets, trained, kept)
    assert max(slope(fit, inputs, targets, trained, kept, rows.ridge)) < 1e-7 * float(inputs.square().sum())
    assert not fit.weights[~kept].any()
    assert torch.allclose(fit.predict(rows), inputs @ torch.from_numpy(fit.weights) + torch.from_numpy(fit.shift))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda fit, trained: Fit(fit.weights, fit.shift * 0),
        lambda fit, trained: Fit(trained.weights, fit.shift),
        lambda fit, trained: Fit(fit.weights * 0.999, fit.shift),
        lambda fit, trained: Fit(fit.weights, trained.shift),
    ],
    ids=["no shift", "trained weights", "shrunk", "trained shift"],
)
def test_the_law_of_the_refit_rejects_wrong_fits(wrong):
    inputs, targets, trained, _ = layer_data(3)
    kept = np.array([True, True, False, True, False, True])
    rows = gather_rows(inputs)
    fit = wrong(fit_columns(rows, targets, trained, kept), trained)
    assert max(slope(fit, inputs, targets, trained, kept, rows.ridge)) > 1e-5 * float(inputs.square().sum())


def test_with_every_column_and_the_trained_answers_the_trained_weights_come_back():
    inputs, targets, trained, _ = layer_data(1)
    fit = fit_columns(gather_rows(inputs), targets, trained, np.ones(6, dtype=bool))
    assert np.allclose(fit.weights, trained.weights, rtol=0, atol=1e-10)
    assert np.allclose(fit.shift, trained.shift, rtol=0, atol=1e-10)


def test_constant_inputs_and_columns_that_are_zero_change_nothing_but_the_shift():
    inputs, targets, trained, _ = layer_data(2)
    inputs[:, 2] = 0.0
    fit = fit_columns(gather_rows(inputs), targets, trained, np.ones(6, dtype=bool))
    assert np.array_equal(fit.weights[2], trained.weights[2])
    still = fit_columns(gather_rows(inputs[:1].repeat(9, 1)), targets[:9], trained, np.ones(6, dtype=bool))
    assert np.allclose(still.weights, trained.weights, atol=1e-3)
    assert np.isfinite(still.shift).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_majorisation_never_raises_the_error_behind_the_relu(seed, with_sum):
    inputs, targets, trained, generator = layer_data(seed)
    added = torch.from_numpy(generator.normal(size=(60, 3))) if with_sum else None
    level = torch.zeros_like(targets) if added is None else added
    kept = np.isin(np.arange(6), generator.permutation(6)[:3])
    rows = gather_rows(inputs)

    def error(fit):
        start = np.where(kept[:, None], trained.weights, 0.0)
        answers, wanted = fit.predict(rows) + level, targets + level
        wrong = torch.where(wanted > 0, answers - wanted, torch.relu(answers))
        assert float((torch.relu(answers) - torch.relu(wanted)).square().sum()) <= float(wrong.square().sum())
        return float(wrong.square().sum()) + rows.ridge * float(np.sum((fit.weights - start) ** 2))

    errors = [error(fit_behind_relu(rows, targets, added, trained, kept, rounds)) for rounds in (0, 1, 2, 5, 20)]
    assert all(after <= before * (1 + 1e-9) + 1e-12 for before, after in itertools.pairwise(errors))


@pytest.mark.parametrize("bias", [True, False])
def test_a_written_fit_is_what_the_layer_answers_in_both_modes(bias):
    torch.manual_seed(0)
    layer, norm = nn.Linear(6, 3, bias=bias).double(), nn.BatchNorm1d(3).double()
    inputs, _, fit, _ = layer_data(5)
    rows = gather_rows(inputs)
    write_fit(layer, norm, fit, rows)
    found = read_fit(layer, norm)
    assert np.allclose(found.weights, fit.weights)
    assert np.allclose(found.shift, fit.shift)
    wanted = inputs @ torch.from_numpy(fit.weights) + torch.from_numpy(fit.shift)
    assert torch.allclose(norm.eval()(layer(inputs)), wanted)
    assert torch.allclose(norm.train()(layer(inputs)), wanted, atol=1e-3)


def test_layers_that_take_no_shift_or_have_no_statistics_are_refused():
    inputs, _, fit, _ = layer_data(5)
    with pytest.raises(InputError, match="bias"):
        write_fit(nn.Linear(6, 3, bias=False), None, fit, gather_rows(inputs))
    with pytest.raises(InputError, match="statistics"):
        read_fit(nn.Linear(6, 3), nn.BatchNorm1d(3, track_running_stats=False))


def test_the_exact_choice_is_the_best_of_all_choices_and_its_bound_holds():
    generator = np.random.default_rng(4)
    inputs, weights = generator.normal(size=(12, 10)) @ generator.normal(size=(10, 10)), generator.normal(size=(10, 2))
    targets, groups = inputs @ weights, np.repeat(np.arange(5), 2)
    found = choose_channels(inputs, targets, groups, 3, ridge=1e-4, gap=1e-4, time_limit=20.0)
    ridge = 1e-4 * float(np.mean(np.sum(inputs**2, axis=0)))

    def value(channels):
        columns = np.isin(groups, channels)
        X = np.vstack([inputs[:, columns], np.sqrt(ridge) * np.eye(columns.sum())])
        Y = np.vstack([targets, np.zeros((columns.sum(), 2))])
        return float(np.sum((X @ np.linalg.lstsq(X, Y, rcond=None)[0] - Y) ** 2))

    best = min(value(channels) for channels in itertools.combinations(range(5), 3))
    assert np.count_nonzero(found.kept) <= 3
    assert found.lower_bound <= best * (1 + 1e-5)
    assert value(np.flatnonzero(found.kept)) <= best * (1 + 2e-4)
    assert found.objective <= found.greedy * (1 + 1e-9)
