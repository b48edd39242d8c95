"""Nested choices and their values, against refits by another library over every set."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perspective import InputError
from solvers import solve_exact
from solvers.choices import best_of, compare_choices
from solvers.elimination import eliminate
from solvers.layer_price import Ask, price_layer


def make_data(seed, sizes=(2, 1, 3, 2, 2), outputs=2, samples=30):
    random, d = np.random.default_rng(seed), sum(sizes)
    X = random.normal(size=(samples, d)) @ (np.eye(d) + 0.5 * random.normal(size=(d, d)))
    W = random.normal(size=(d, outputs)) * np.repeat(random.uniform(0, 2, size=len(sizes)), sizes)[:, None]
    return X, X @ W + 0.1 * random.normal(size=(samples, outputs)), np.repeat(np.arange(len(sizes)), sizes), W


def refit(X, Y, labels, groups, ridge):
    columns = np.isin(labels, list(groups))
    A = np.vstack([X[:, columns], np.sqrt(ridge) * np.eye(columns.sum())])
    b = np.vstack([Y, np.zeros((columns.sum(), Y.shape[1]))])
    return float(np.sum((A @ np.linalg.lstsq(A, b, rcond=None)[0] - b) ** 2))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1e-6, 0.3, 20.0]), st.lists(st.integers(1, 3), min_size=1, max_size=11))
def test_the_greedy_path_drops_the_cheapest_group_each_time(seed, ridge, sizes):
    X, Y, labels, _ = make_data(seed, tuple(sizes))
    path = eliminate(X, Y, labels, ridge)
    left = set(range(len(sizes)))
    assert path.values[len(left)] == pytest.approx(refit(X, Y, labels, left, ridge), rel=1e-7, abs=1e-9)
    for j in path.order:
        costs = {k: refit(X, Y, labels, left - {k}, ridge) for k in left}
        assert costs[j] <= min(costs.values()) * (1 + 1e-7) + 1e-9
        left = left - {j}
        assert path.values[len(left)] == pytest.approx(costs[j], rel=1e-7, abs=1e-9)
        assert set(np.flatnonzero(path.support(len(left)))) == left


def test_a_given_order_is_followed_and_duplicates_do_no_harm():
    X, Y, labels, _ = make_data(3)
    X[:, labels == 4] = X[:, labels == 0]
    path = eliminate(X, Y, labels, 1e-3, order=[2, 0, 4, 1, 3])
    assert path.order == (2, 0, 4, 1, 3)
    left = {0, 1, 2, 3, 4}
    for j in path.order:
        left.discard(j)
        assert path.values[len(left)] == pytest.approx(refit(X, Y, labels, left, 1e-3), rel=1e-7)
    with pytest.raises(InputError, match="ridge"):
        eliminate(X, Y, labels, 0.0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ask", [Ask(keep=2), Ask(keep=0.6), Ask(price=0.05), Ask(at_most=3)])
def test_no_choice_beats_the_optimum_and_distances_are_true(seed, ask):
    X, Y, labels, W = make_data(seed)
    layer = price_layer(X, Y, labels, ask)
    counts = range(layer.count + 1) if layer.at_most else range(6)
    best = min(
        refit(X, Y, labels, groups, layer.ridge) + layer.charge * len(groups)
        for count in counts
        for groups in combinations(range(5), count)
    )
    if layer.at_most:
        result = solve_exact(layer.problem, gap=1e-6, backend="enumerate")
    else:
        result = solve_exact(layer.problem, gap=1e-6)
    choices = {choice.name: choice for choice in compare_choices(layer, W, result)}
    assert choices["incumbent"].objective == pytest.approx(best, rel=2e-6)
    norms = [np.linalg.norm(W[labels == j]) for j in range(5)]
    ranked = list(np.argsort(norms)[::-1])
    allowed = [layer.count] if layer.at_most else range(6)
    by_norm = min(refit(X, Y, labels, ranked[:k], layer.ridge) + layer.charge * k for k in allowed)
    assert choices["magnitude"].objective == pytest.approx(by_norm, rel=1e-6)
    assert choices["greedy"].kept.tolist() == best_of(layer.greedy, layer).tolist()
    for choice in choices.values():
        groups = set(np.flatnonzero(choice.kept))
        assert choice.objective == pytest.approx(
            refit(X, Y, labels, groups, layer.ridge) + layer.charge * len(groups), rel=1e-6
        )
        assert choice.objective >= best * (1 - 1e-9)


def test_channels_that_carry_nothing_leave_a_price_above_zero():
    X, Y, labels, _ = make_data(0)
    X[:, labels >= 3] = 0.0
    layer = price_layer(X, Y, labels, Ask(keep=4))
    assert layer.charge > 0
    assert any("flat" in note for note in layer.notes)
