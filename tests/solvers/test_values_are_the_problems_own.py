"""Each value of the problem equals a naive loop; pointwise big-M <= perspective <= the program itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import CASES, make_layer

from solvers import LayerProblem, solve_relaxation
from solvers.dual import water_level
from solvers.projected import indicators_of
from solvers.shrink import shrink


def random_weights(problem: LayerProblem, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    size = problem.regulariser.bound or 1.0
    off = random.random(problem.n_groups)[problem.labels] < 0.3
    w = random.uniform(-size, size, (problem.X.shape[1], problem.targets2d.shape[1]))
    return problem.shaped(np.where(off[:, None], 0.0, w))


@pytest.mark.parametrize("case", CASES)
def test_objective_is_the_naive_sum(case: str) -> None:
    problem = make_layer(0, **CASES[case])
    a, b = problem.regulariser.quadratic
    w = random_weights(problem, 1)
    value = 0.0
    for i in range(len(problem.X)):
        for prediction, target in zip(np.atleast_1d(problem.X[i] @ w), np.atleast_1d(problem.Y[i]), strict=True):
            value += (prediction - target) ** 2
    for j in range(problem.n_groups):
        vector = w[problem.labels == j]
        if np.any(vector != 0):
            value += problem.strength * (np.sum(a * vector**2 + b * abs(vector)) + problem.regulariser.price)
    assert problem.objective(w) == pytest.approx(value, rel=1e-12)
    assert problem.objective(w, problem.kept(w)) == problem.objective(w)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(case=st.sampled_from(sorted(CASES)), seed=st.integers(0, 10**6))
def test_relaxations_are_ordered_at_every_point(case: str, seed: int) -> None:
    problem = make_layer(0, **CASES[case])
    w = random_weights(problem, seed)
    relaxed, slack = problem.relaxed(w), 1e-9 * abs(problem.relaxed(w))
    assert problem.big_m_relaxed(w) <= relaxed + slack
    assert relaxed <= problem.objective(w) + slack
    assert problem.perspective(w, indicators_of(problem, problem.matrix(w))) == pytest.approx(relaxed, rel=1e-9)
    random = np.random.default_rng(seed)
    other = np.clip(indicators_of(problem, problem.matrix(w)) + random.uniform(-0.2, 0.2, problem.n_groups), 0, 1)
    assert relaxed <= problem.perspective(w, other) + slack


def test_infeasible_points_are_infinite() -> None:
    problem = make_layer(0)
    w = np.zeros(problem.X.shape[1])
    w[0] = 1.0
    assert problem.objective(w, np.zeros(problem.n_groups)) == np.inf
    assert problem.perspective(w, np.zeros(problem.n_groups)) == np.inf
    assert problem.objective(2 * w) == problem.relaxed(2 * w) == problem.big_m_relaxed(2 * w) == np.inf
    assert problem.objective(w, np.ones(problem.n_groups)) > problem.objective(w)


def test_the_problem_keeps_its_own_copy() -> None:
    X, Y = np.ones((4, 2)), np.ones(4)
    problem = LayerProblem(X, Y, [5, -1], make_layer().regulariser, 1.0)
    X[:] = 7.0
    assert np.all(problem.X == 1.0)
    assert problem.labels.tolist() == [1, 0]
    assert [m.tolist() for m in problem.members] == [[1], [0]]


@pytest.mark.parametrize("case", CASES)
def test_group_rows_go_there_and_back(case: str) -> None:
    problem = make_layer(0, **CASES[case])
    w = problem.matrix(random_weights(problem, 3))
    rows = problem.gather(w)
    assert np.array_equal(problem.scatter(rows), w)
    for j, members in enumerate(problem.members):
        assert sorted(rows[j][rows[j] != 0]) == sorted(w[members][w[members] != 0])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=6), st.floats(0.01, 8))
def test_the_water_level_cuts_off_the_radius(values: list[float], radius: float) -> None:
    z = np.array([values])
    level = water_level(z, radius)
    cut = np.sum(z - level)
    assert cut <= radius + 1e-9
    assert cut == pytest.approx(min(radius, np.sum(z)), abs=1e-9)
    below = level < z
    assert not np.any(below) or np.ptp(level[below]) < 1e-9


@pytest.mark.parametrize("case", ["plain", "box binds", "elastic cost", "no box"])
def test_the_scalar_step_is_a_minimiser(case: str) -> None:
    regulariser = make_layer(0, **CASES[case]).regulariser
    v = np.linspace(-3, 3, 41)[None, :]
    s = shrink(regulariser, v, np.array([0.7]))
    top = regulariser.bound or 4.0
    grid = np.linspace(-top, top, 20001)[:, None]
    values = 0.5 * (grid - v) ** 2 + 0.7 * regulariser.cost(grid)
    best = 0.5 * (s - v) ** 2 + 0.7 * regulariser.cost(s)
    assert np.all(best[0] <= values.min(axis=0) + 1e-12)
    assert np.all(np.abs(s) <= top)


@pytest.mark.parametrize("case", CASES)
def test_the_projected_relaxation_reaches_nine_digits(case: str) -> None:
    problem = make_layer(13, **CASES[case])
    result = solve_relaxation(problem)
    assert result.status == "optimal"
    assert result.gap <= 1e-9
    result.certificate.check(problem)
