"""Supports' values are least squares', a drop or an addition changes them by what was said, and the search only goes down."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import make_layer, make_regulariser
from split_cases import DIFFICULTIES, best_fit, random_layer, true_optimum

from solvers import LayerProblem
from solvers.split.elimination import eliminate_groups
from solvers.split.program import split_problem
from solvers.split.supports import Supports

SEEDS = st.integers(0, 300)


def unboxed(problem: LayerProblem) -> LayerProblem:
    alpha = problem.regulariser.parameters["alpha"]
    return replace(problem, regulariser=make_regulariser(alpha=alpha, bound=None))


def supports_of(problem: LayerProblem) -> Supports:
    return Supports(split_problem(problem, 2), time.perf_counter() + 60.0)


def random_support(problem: LayerProblem, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(problem.n_groups) < 0.5


@settings(max_examples=40, deadline=None, derandomize=True)
@given(SEEDS)
def test_values_and_weights_are_least_squares_fits(seed: int) -> None:
    problem = unboxed(random_layer(seed))
    supports, support = supports_of(problem), random_support(problem, seed)
    value = supports.look_up(support)
    if np.count_nonzero(support) > supports.split.room:
        assert value == np.inf
        return
    truth = best_fit(problem, tuple(support))
    scale = supports.split.constant
    assert abs(value - truth) <= 1e-9 * scale
    weights = supports.weights(support)
    assert np.array_equal(problem.kept(weights) & ~support, np.zeros(problem.n_groups, dtype=bool))
    ridge = problem.strength * problem.regulariser.quadratic[0]
    fitted = np.sum((problem.X @ weights - problem.targets2d) ** 2) + ridge * np.sum(weights**2)
    assert abs(fitted + supports.split.price * support.sum() - truth) <= 1e-9 * scale


@pytest.mark.parametrize("case", DIFFICULTIES)
def test_values_of_difficult_layers_too(case: str) -> None:
    problem = unboxed(make_layer(3, **DIFFICULTIES[case]))
    supports = supports_of(problem)
    for code in range(2**problem.n_groups):
        support = ((code >> np.arange(problem.n_groups)) & 1).astype(bool)
        assert abs(supports.look_up(support) - best_fit(problem, tuple(support))) <= 1e-8 * supports.split.constant


@settings(max_examples=30, deadline=None, derandomize=True)
@given(SEEDS)
def test_moves_say_what_a_move_changes(seed: int) -> None:
    problem = replace(unboxed(random_layer(seed)), at_most=None)
    supports, support = supports_of(problem), random_support(problem, seed + 1)
    value, change = supports.look_up(support), supports.moves(support)
    for j in range(problem.n_groups):
        moved = support.copy()
        moved[j] = not moved[j]
        assert abs(value + change[j] - supports.look_up(moved)) <= 1e-8 * supports.split.constant


@settings(max_examples=30, deadline=None, derandomize=True)
@given(SEEDS)
def test_elimination_is_the_naive_greedy(seed: int) -> None:
    problem = replace(unboxed(random_layer(seed)), at_most=None)
    split, scale = split_problem(problem, 1), float(np.sum(problem.targets2d**2))
    inverse = np.linalg.inv(split.A)
    order = eliminate_groups(inverse.copy(), inverse @ split.Bt.T, split.size)
    assert sorted(order) == list(range(problem.n_groups))
    left = np.ones(problem.n_groups, dtype=bool)
    for j in order:
        values = np.full(problem.n_groups, np.inf)
        for i in np.flatnonzero(left):
            without = left.copy()
            without[i] = False
            values[i] = best_fit(problem, tuple(without))
        assert values[j] <= np.min(values) + 1e-9 * scale  # ties fall either way
        left[j] = False


@settings(max_examples=40, deadline=None, derandomize=True)
@given(SEEDS)
def test_improvement_never_goes_uphill_and_keeps_the_room(seed: int) -> None:
    problem = unboxed(random_layer(seed))
    supports = supports_of(problem)
    start = supports.trim(random_support(problem, seed))
    before = supports.look_up(start)
    supports.improve(start)
    assert supports.value <= before
    assert supports.look_up(supports.best) == supports.value
    assert np.count_nonzero(supports.best) <= supports.split.room
    assert supports.value >= true_optimum(problem) - 1e-9 * supports.split.constant
    supports.eliminate()
    assert supports.value <= min(before, supports.split.constant)
    again = supports.value
    supports.improve(supports.best)
    assert supports.value <= again
    assert min(supports.known.values()) == supports.value


@settings(max_examples=30, deadline=None, derandomize=True)
@given(SEEDS, st.integers(1, 4))
def test_trimming_drops_the_cheapest_until_there_is_room(seed: int, most: int) -> None:
    made = unboxed(random_layer(seed))
    problem = replace(made, at_most=min(most, made.n_groups))
    supports, support = supports_of(problem), np.ones(problem.n_groups, dtype=bool)
    trimmed = supports.trim(support)
    assert support.all()  # the support given is left alone
    assert np.count_nonzero(trimmed) == min(problem.at_most or 0, problem.n_groups)
    few = random_support(problem, seed)
    if np.count_nonzero(few) <= supports.split.room:
        assert np.array_equal(supports.trim(few), few)


def test_no_time_means_no_moves() -> None:
    problem = make_layer(1, bound=None)
    supports = Supports(split_problem(problem, 1), time.perf_counter() - 1.0)
    supports.improve(np.ones(problem.n_groups, dtype=bool))
    assert len(supports.known) == 2
