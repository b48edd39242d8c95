"""The compiled relaxation is h by its definition, its derivatives are h's, and every step keeps its promise."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import make_layer
from split_cases import (
    DIFFICULTIES,
    Program,
    best_fit,
    dense_blocks,
    dense_h,
    dense_slope,
    random_layer,
    random_program,
    true_optimum,
)

from solvers.split.kernel import LEAST, WALL, assess, invert_small, lowest, step_box, step_curvature, step_indicators
from solvers.split.lapack import factor, invert
from solvers.split.part import tangent_gains

SEEDS = st.integers(0, 200)


@pytest.mark.parametrize("n", [1, 2, 3, 9, 40])
def test_factor_and_inverse_are_numpys(n: int) -> None:
    random = np.random.default_rng(n)
    half = random.standard_normal((n, n + 3))
    a = half @ half.T
    for routine in (factor, invert):
        assert not routine(a - 2 * np.max(np.linalg.eigvalsh(a)) * np.eye(n))
    inverse, upper = a.copy(), a.copy()
    assert factor(upper)
    np.testing.assert_allclose(np.triu(upper), np.linalg.cholesky(a).T, rtol=1e-12, atol=1e-12)
    assert invert(inverse)
    small = np.empty_like(a)
    assert invert_small(a, small)
    for found in (inverse, small):
        assert np.array_equal(found, found.T)
        np.testing.assert_allclose(found @ a, np.eye(n), atol=1e-9)
    assert not invert_small(-a, small)


@pytest.mark.parametrize("case", DIFFICULTIES)
@pytest.mark.parametrize("boxed", [False, True])
def test_value_gradient_and_hessian_are_those_of_the_definition(case: str, boxed: bool) -> None:
    problem = make_layer(4, **DIFFICULTIES[case])
    program = random_program(problem, 7, boxed=boxed)
    if boxed:  # multipliers in the units of the layer
        program = program._replace(box=program.box / max(problem.regulariser.bound**2, 1e-300))
    ok, h, gradient, hessian, weights, pull = program.look()
    y, scale = program.y, program.split.constant + float(np.sum(np.abs(program.split.prices(program.box))))
    assert ok
    assert abs(h - dense_h(program, y).real) <= 1e-9 * scale
    exact = dense_slope(program, y)
    slope = gradient - program.split.prices(program.box)
    np.testing.assert_allclose(slope, exact, rtol=1e-6, atol=1e-8 * np.max(np.abs(exact)) + 1e-15 * scale)
    step = 1e-5
    rows = [
        (dense_slope(program, y + step * e) - dense_slope(program, y - step * e)) / (2 * step) for e in np.eye(len(y))
    ]
    np.testing.assert_allclose(hessian, rows, rtol=1e-4, atol=1e-6 * np.max(np.abs(rows)))
    split = program.split
    for k in range(len(split.starts) - 1):
        part = slice(split.starts[k], split.starts[k + 1])
        whole = split.A - dense_blocks(program.E[k])
        whole += dense_blocks((program.E[k] + program.theta[k]) / y[:, None, None])
        np.testing.assert_allclose(weights[part] @ whole, split.Bt[part], atol=1e-8 * np.max(np.abs(split.Bt)))
        U = (weights[part].reshape(-1, len(y), split.size) / y[:, None]).transpose(1, 2, 0)
        found = np.einsum("jao,jbo->jab", U, U)
        np.testing.assert_allclose(pull[k], found, rtol=1e-6, atol=1e-8 * np.max(found))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(SEEDS, st.floats(0.05, 0.95))
def test_h_is_convex_in_the_indicators_and_concave_and_rising_in_the_curvature(seed: int, t: float) -> None:
    program, other = (random_program(random_layer(seed), n, boxed=False) for n in (seed, seed + 1))
    h = [dense_h(program, y).real for y in (program.y, other.y, t * program.y + (1 - t) * other.y)]
    slack = 1e-9 * program.split.constant
    assert h[2] <= t * h[0] + (1 - t) * h[1] + slack
    blocks = (program.E, other.E, t * program.E + (1 - t) * other.E)
    g = [dense_h(program._replace(E=E), program.y).real for E in blocks]
    assert g[2] >= t * g[0] + (1 - t) * g[1] - slack
    assert dense_h(program._replace(E=0.5 * program.E), program.y).real <= g[0] + slack


@settings(max_examples=25, deadline=None, derandomize=True)
@given(SEEDS)
def test_the_tangent_is_below_every_support_and_its_gains_below_every_fixed_one(seed: int) -> None:
    problem = random_layer(seed)
    program = random_program(problem, seed, boxed=problem.regulariser.bound is not None)
    _, h, gradient, *_ = program.look()
    h, room, p = h + program.split.constant, program.split.room, problem.n_groups
    bound = h - gradient @ program.y + lowest(gradient, room)
    gains = tangent_gains(gradient, room)
    slack = 1e-8 * program.split.constant
    codes = (np.arange(2**p)[:, None] >> np.arange(p)) & 1
    tangents = h + (codes - program.y) @ gradient
    allowed = codes.sum(axis=1) <= room
    assert abs(bound - np.min(tangents[allowed])) <= slack
    for j in range(p):
        for choice in (0, 1):
            part = allowed & (codes[:, j] == choice)
            assert abs(bound + gains[j, choice] - np.min(tangents[part])) <= slack
    for code in codes[allowed][:: max(1, np.count_nonzero(allowed) // 12)]:
        tangent = h + (code - program.y) @ gradient
        assert tangent <= best_fit(problem, tuple(bool(c) for c in code)) + slack


@settings(max_examples=25, deadline=None, derandomize=True)
@given(SEEDS)
def test_indicators_step_down_inside_their_polytope(seed: int) -> None:
    program = random_program(random_layer(seed), seed, boxed=False)
    room = program.split.room
    y = np.minimum(program.y, room / len(program.y))
    values = []
    for _ in range(12):
        ok, h, gradient, hessian, *_ = program._replace(y=y).look()
        assert ok
        values.append(h)
        y = step_indicators(y, gradient, hessian, room)
        assert np.all((y >= LEAST * (1 - 1e-12)) & (y <= 1))
        assert np.sum(y) <= room + 1e-6
    # at the minimum the tangent's own minimum is there too
    assert values[-1] - (h - gradient @ y + lowest(gradient, room)) <= 0.02 * program.split.constant
    assert values[-1] <= min(values[:3]) + 1e-9 * program.split.constant


@pytest.mark.parametrize("seed", range(8))
def test_curvature_stays_inside_the_cone_and_climbs(seed: int) -> None:
    program = random_program(random_layer(seed), seed, boxed=False)
    split, y = program.split, program.y
    barrier, E = 1e-3 * split.constant / len(split.A), 0.3 * program.E + 0.3 * split.smallest * np.eye(split.size)
    E = np.ascontiguousarray(E)

    def merit(E: np.ndarray) -> float:
        total = dense_h(program._replace(E=E), y).real
        for k in range(len(E)):
            rest = split.A - dense_blocks(E[k]) - split.margin * np.eye(len(split.A))
            own = np.linalg.slogdet(E[k] - split.floor * np.eye(split.size))
            assert np.all(own.sign > 0)
            total += barrier * (np.linalg.slogdet(rest).logabsdet + WALL * np.sum(own.logabsdet))
        return total

    start = dense_h(program._replace(E=E), y).real
    for _ in range(15):
        before = merit(E)
        ok, *_, pull = assess(split.A, split.Bt, split.starts, E, np.zeros_like(E), y, split.prices(program.box))
        assert ok
        assert step_curvature(split.A, E, pull, y, barrier, split.floor, split.margin)
        assert np.array_equal(E, E.swapaxes(2, 3))
        for k in range(len(E)):
            assert np.min(np.linalg.eigvalsh(split.A - dense_blocks(E[k]))) > split.margin
            assert np.min(np.linalg.eigvalsh(E[k])) > split.floor
        assert merit(E) >= before - 1e-10 * split.constant
    if np.max(np.sum(pull, axis=(0, 2, 3))) > 1e-3:
        assert dense_h(program._replace(E=E), y).real > start - 0.02 * split.constant


def test_alternating_steps_raise_the_least_value() -> None:
    """min over y of h grows with the blocks: what the alternation is for."""
    program = random_program(make_layer(3, sizes=(2,) * 6, strength=6.0, bound=None), 3)
    split, y, E = program.split, program.y, 0.2 * program.E
    E = np.ascontiguousarray(E)
    bounds = []
    for _ in range(60):
        ok, h, gradient, hessian, _, pull = program._replace(E=E, y=y).look()
        assert ok
        bounds.append(split.constant + h - gradient @ y + lowest(gradient, split.room))
        y_next = step_indicators(y, gradient, hessian, split.room)
        assert step_curvature(split.A, E, pull, y, 1e-4 * split.constant / len(split.A), split.floor, split.margin)
        y = y_next
    optimum = true_optimum(split.problem)
    assert max(bounds) <= optimum
    assert bounds[-1] >= bounds[10]
    assert optimum - max(bounds) <= 0.5 * (optimum - bounds[10]) or optimum - bounds[10] <= 1e-6 * optimum


@pytest.mark.parametrize("seed", range(0, 18, 3))
def test_box_multipliers_stay_positive_and_their_bound_valid(seed: int) -> None:
    problem = make_layer(seed, sizes=(2, 1, 3), outputs=1 + seed % 2, bound=0.1, strength=1.0)
    program = random_program(problem, seed, boxed=False)
    split, box, y, room = program.split, program.box.copy(), program.y, program.split.room
    theta = program.theta
    optimum, unboxed = true_optimum(problem), true_optimum(replace(problem, regulariser=_without_box(problem)))
    assert optimum > 1.01 * unboxed  # the box binds hard
    bounds = []
    for _ in range(25):
        ok, h, gradient, hessian, _, pull = assess(
            split.A, split.Bt, split.starts, program.E, theta, y, split.prices(box)
        )
        assert ok
        bounds.append(split.constant + h - gradient @ y + lowest(gradient, room))
        y_next = step_indicators(y, gradient, hessian, room)
        step_box(program.E, theta, box, pull, split.whitener, split.reach, problem.regulariser.bound)
        y = y_next
        assert np.all(box >= 0)
        np.testing.assert_allclose(theta, program._replace(box=box).theta, rtol=1e-9, atol=1e-9 * np.max(theta))
    assert np.any(box > 0)
    assert max(bounds) <= optimum * (1 + 1e-10)
    assert max(bounds) > unboxed  # no relaxation without multipliers gets there


def _without_box(problem):
    from layer_cases import make_regulariser

    return make_regulariser(alpha=problem.regulariser.parameters["alpha"], bound=None)


def test_blocks_outside_the_cone_are_refused() -> None:
    program: Program = random_program(make_layer(1, bound=None), 1)
    split = program.split
    E = np.ascontiguousarray(program.E + 2 * np.max(np.linalg.eigvalsh(split.A)) * np.eye(split.size))
    assert not step_curvature(split.A, E, np.ones_like(E), program.y, 1.0, split.floor, split.margin)
    assert not assess(split.A, split.Bt, split.starts, -E, np.zeros_like(E), program.y, split.prices(program.box))[0]
