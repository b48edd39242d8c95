"""What the compiled search for one output is made of keeps its promise: tables, fits, looks, aimed curvature."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import make_layer, make_regulariser
from split_cases import DIFFICULTIES, best_fit, dense_blocks, dense_h, dense_slope, random_program

from solvers import LayerProblem
from solvers.problem import Array
from solvers.split.aim import aim_curvature, fit_on, places
from solvers.split.glance import condense_one, glance
from solvers.split.kernel import LEAST, lowest
from solvers.split.moves import improve_support, sweep, value_support, weigh_exchange, weigh_move
from solvers.split.program import Split, split_problem

SEEDS = st.integers(0, 300)


def single_layer(seed: int) -> LayerProblem:
    """One output, 2 to 6 groups of 1 to 4, any price, no box."""
    random = np.random.default_rng(seed)
    sizes = tuple(int(n) for n in random.integers(1, 5, size=random.integers(2, 7)))
    strength, alpha = float(10 ** random.uniform(-1, 1.5)), float(random.choice([0.1, 0.5, 0.9]))
    duplicate = sum(sizes) > 2 and seed % 7 == 3
    return make_layer(seed, sizes=sizes, strength=strength, alpha=alpha, duplicate=duplicate, bound=None)


def random_support(split: Split, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(len(split.whitener)) < 0.5


def table_of(split: Split, support: np.ndarray) -> Array:
    d = len(split.A)
    table = np.zeros((d + 1, d + 1))
    table[:d, :d], table[:d, d], table[d, :d] = split.A, split.Bt[0], split.Bt[0]
    for j in np.flatnonzero(support):
        assert sweep(table, j, split.size, False)
    return table


@settings(max_examples=25, deadline=None, derandomize=True)
@given(SEEDS)
def test_a_sweep_is_a_regression_and_undoes_itself(seed: int) -> None:
    split = split_problem(single_layer(seed), 1)
    support, s, d = random_support(split, seed), split.size, len(split.A)
    table, plain = table_of(split, support), table_of(split, np.zeros(len(support), dtype=bool))
    inside, outside = places(support, True, s), places(support, False, s)
    both = np.append(outside, d)
    block = np.linalg.inv(split.A[np.ix_(inside, inside)])
    coefficients = block @ plain[np.ix_(inside, both)]
    scale = 1e-9 * (1 + np.max(np.abs(block), initial=0.0) * np.max(np.abs(plain)) ** 2)
    np.testing.assert_allclose(table[np.ix_(inside, inside)], -block, atol=scale)
    np.testing.assert_allclose(table[np.ix_(inside, both)], coefficients, atol=scale)
    left = plain[np.ix_(both, both)] - plain[np.ix_(both, inside)] @ coefficients
    np.testing.assert_allclose(table[np.ix_(both, both)], left, atol=scale)
    for j in np.flatnonzero(support):
        assert sweep(table, j, s, True)
    np.testing.assert_allclose(table, plain, atol=scale)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(SEEDS)
def test_moves_and_exchanges_say_what_they_change(seed: int) -> None:
    problem = single_layer(seed)
    split = split_problem(problem, 1)
    support, s, price = random_support(split, seed), split.size, split.price
    table, value = table_of(split, support), best_fit(problem, tuple(support))
    for j in range(len(support)):
        moved = support.copy()
        moved[j] = not moved[j]
        change = weigh_move(table, j, s, support[j]) + (-price if support[j] else price)
        assert abs(value + change - best_fit(problem, tuple(moved))) <= 1e-7 * split.constant
        assert abs(best_fit(problem, tuple(moved)) - value_of(split, moved)) <= 1e-8 * split.constant
    for i, j in product(np.flatnonzero(support), np.flatnonzero(~support)):
        moved = support.copy()
        moved[i], moved[j] = False, True
        change = weigh_exchange(table, i, j, s)
        assert abs(value + change - best_fit(problem, tuple(moved))) <= 1e-7 * split.constant


def value_of(split: Split, support: np.ndarray) -> float:
    return value_support(split.A, split.Bt[0], split.size, split.constant, split.price, support)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(SEEDS)
def test_improvement_ends_where_no_move_helps(seed: int) -> None:
    problem = single_layer(seed)
    split = split_problem(problem, 1)
    support = random_support(split, seed)
    before, slack = best_fit(problem, tuple(support)), 1e-8 * split.constant
    improve_support(split.A, split.Bt[0], split.size, split.price, support)
    value = best_fit(problem, tuple(support))
    assert value <= before + slack
    for i, j in product(range(len(support)), repeat=2):
        moved = support.copy()
        moved[i] = not moved[i]
        if i != j and support[i] != support[j]:
            moved[j] = not moved[j]
        assert best_fit(problem, tuple(moved)) >= value - slack


@pytest.mark.parametrize("case", [c for c in DIFFICULTIES if "outputs" not in DIFFICULTIES[c]])
def test_a_glance_is_h_by_its_definition(case: str) -> None:
    problem = replace(make_layer(4, **DIFFICULTIES[case]), regulariser=make_regulariser(bound=None))
    program = random_program(problem, 7)
    split, y = program.split, program.y
    ok, h, gradient, hessian, U = glance(split.A, split.Bt[0], program.E[0], y, split.price)
    assert ok
    assert abs(h - dense_h(program, y).real) <= 1e-9 * split.constant
    slope = dense_slope(program, y)
    scale = float(np.max(np.abs(slope))) + split.price + split.constant  # of what is added up
    np.testing.assert_allclose(gradient - split.price, slope, atol=1e-10 * scale)
    np.testing.assert_allclose(hessian, program.look()[3], rtol=1e-3, atol=1e-6 * scale)  # `assess`: single precision
    C = np.einsum("jab,jb->ja", program.E[0], U.reshape(len(y), -1))
    np.testing.assert_allclose(-np.sum(C * U.reshape(len(y), -1), axis=1), slope, atol=1e-10 * scale)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(SEEDS)
def test_the_condensed_part_has_the_least_over_the_groups_on(seed: int) -> None:
    split = split_problem(single_layer(seed), 1)
    random = np.random.default_rng(seed)
    states = random.integers(-1, 2, size=len(split.whitener)).astype(np.int8)
    ok, A, b, explained = condense_one(split.A, split.Bt[0], split.size, states)
    assert ok
    free, on = places(states, 0, split.size), places(states, 1, split.size)
    assert A.shape == (len(free), len(free))
    assert np.array_equal(A, A.T)
    w = random.standard_normal(len(free))
    full = np.zeros(len(split.A))
    full[free] = w
    full[on] = np.linalg.solve(split.A[np.ix_(on, on)], split.Bt[0][on] - split.A[np.ix_(on, free)] @ w)
    least = full @ split.A @ full - 2 * split.Bt[0] @ full
    assert abs(w @ A @ w - 2 * b @ w - explained - least) <= 1e-8 * (split.constant + abs(least) + w @ w)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(SEEDS)
def test_aimed_blocks_lie_in_the_cone_and_prove_their_support_where_they_say_so(seed: int) -> None:
    problem = single_layer(seed)
    split = split_problem(problem, 1)
    s, b, price = split.size, split.Bt[0], split.price
    support = random_support(split, seed)
    improve_support(split.A, b, s, price, support)
    E = np.empty(split.whitener.shape)
    assert aim_curvature(split.A, b, s, price, split.smallest, support, E)
    assert np.array_equal(E, E.swapaxes(1, 2))
    assert np.min(np.linalg.eigvalsh(E)) > 0
    assert np.min(np.linalg.eigvalsh(split.A - dense_blocks(E))) > 0
    W = fit_on(split.A, b, s, support).reshape(-1, s)
    rest = (b - split.A @ W.ravel()).reshape(-1, s)
    kept = np.einsum("ja,jab,jb->j", W, E, W)
    asked = np.einsum("ja,jab,jb->j", rest, np.linalg.inv(E), rest)
    holds = np.all(np.where(support, kept >= price, asked <= price))
    y = np.where(support, 1.0, LEAST)
    _, h, gradient, _, _ = glance(split.A, b, E, y, price)
    bound = split.constant + h - gradient @ y + lowest(gradient, len(y))
    value = best_fit(problem, tuple(support))
    assert bound <= value + 1e-9 * split.constant
    if holds:
        assert bound >= value - 1e-3 * split.constant  # indicators stop at LEAST


def test_aimed_blocks_prove_orthogonal_groups_at_once() -> None:
    """Nothing couples the groups: any support is proven by its own residual."""
    random = np.random.default_rng(0)
    X = np.linalg.qr(random.standard_normal((40, 12)))[0] * 6
    problem = LayerProblem(
        X, X @ random.standard_normal(12), np.repeat(np.arange(4), 3), make_regulariser(bound=None), 100.0
    )
    split = split_problem(problem, 1)
    support = np.zeros(4, dtype=bool)
    improve_support(split.A, split.Bt[0], 3, split.price, support)
    E = np.empty(split.whitener.shape)
    assert aim_curvature(split.A, split.Bt[0], 3, split.price, split.smallest, support, E)
    y = np.where(support, 1.0, LEAST)
    _, h, gradient, _, _ = glance(split.A, split.Bt[0], E, y, split.price)
    bound = split.constant + h - gradient @ y + lowest(gradient, 4)
    assert 0 < support.sum() < 4
    assert bound == pytest.approx(best_fit(problem, tuple(support)), rel=1e-6)
