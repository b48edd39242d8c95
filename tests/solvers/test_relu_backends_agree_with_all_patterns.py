"""A ReLU layer's optimum is the one that trying every support and every activation pattern finds; bounds are below it."""

from collections.abc import Callable

import numpy as np
import pytest
from layer_cases import make_regulariser
from relu_cases import CASES, make_relu_layer, optimum_by_patterns

from perspective import declare, derive
from solvers import LayerProblem
from solvers.relu.branch import solve_relu_branch
from solvers.relu.solve import enumerate_relu, solve_relu
from solvers.result import Result, Status

GAP = 1e-5
Solve = Callable[[LayerProblem, float, float], Result]


def check(problem: LayerProblem, truth: float, solve: Solve) -> None:
    result = solve(problem, GAP, 60.0)
    slack = 1e-8 * max(truth, 1e-12)
    assert result.status == Status.OPTIMAL
    assert truth - slack <= result.objective <= truth + (GAP + 1e-8) * truth
    assert result.lower_bound <= truth + slack
    assert result.gap <= GAP
    assert result.objective == problem.objective(result.weights, result.indicators)
    assert result.certificate.bound <= truth + slack
    result.certificate.check(problem)
    assert all(value >= truth - slack and bound <= truth + 1e-6 * truth for _, value, bound in result.history)


@pytest.mark.parametrize("case", CASES)
def test_both_solvers_find_the_optimum_of_every_case(case: str) -> None:
    problem = make_relu_layer(3, **CASES[case])
    truth = optimum_by_patterns(problem)
    check(problem, truth, solve_relu)
    check(problem, truth, solve_relu_branch)


@pytest.mark.parametrize("seed", range(12))
def test_all_solvers_find_the_optimum_of_random_layers(seed: int) -> None:
    random = np.random.default_rng(seed)
    problem = make_relu_layer(
        100 + seed,
        samples=int(random.integers(3, 7)),
        outputs=int(random.integers(0, 3)),
        strength=float(10 ** random.uniform(-1.5, 0.5)),
        shift=float(random.choice([0.0, -0.3, 0.2])),
        bound=random.choice([0.4, 1.5, 8.0]),
    )
    truth = optimum_by_patterns(problem)
    check(problem, truth, solve_relu_branch)
    check(problem, truth, solve_relu if seed % 2 else enumerate_relu)


@pytest.mark.parametrize("cost", ["alpha*s**2 + 0.2*s", "alpha*(cosh(s) - 1)"])
def test_both_solvers_agree_for_any_cost(cost: str) -> None:
    regulariser = derive(declare(cost, price="1-alpha", bound="M")).bind(alpha=0.3, M=1.2)
    plain = make_relu_layer(8, samples=7)
    problem = LayerProblem(plain.X, plain.Y, plain.labels, regulariser, 0.5, loss="relu")
    results = [solve(problem, GAP, 60.0) for solve in (solve_relu, solve_relu_branch)]
    for result in results:
        assert result.status == Status.OPTIMAL
        result.certificate.check(problem)
    assert results[0].objective == pytest.approx(results[1].objective, rel=2 * GAP)


def test_two_weights_on_a_fine_grid_are_not_better() -> None:
    """Another oracle: every weight pair of a grid, for a cost without a closed form."""
    random = np.random.default_rng(5)
    X, Y = random.standard_normal((9, 2)), np.maximum(0, random.standard_normal(9))
    regulariser = derive(declare("alpha*(cosh(s) - 1)", price="1-alpha", bound="M")).bind(alpha=0.3, M=2.0)
    problem = LayerProblem(X, Y, [0, 1], regulariser, 0.2, loss="relu")
    result = solve_relu_branch(problem, GAP, 30.0)
    grid = np.linspace(-2, 2, 401)
    u, v = np.meshgrid(grid, grid)
    losses = sum((np.maximum(0, x[0] * u + x[1] * v) - y) ** 2 for x, y in zip(X, Y, strict=True))
    bracket = 0.3 * (np.cosh(u) + np.cosh(v) - 2) + 0.7 * ((np.abs(u) > 1e-9) * 1.0 + (np.abs(v) > 1e-9))
    least = float(np.min(losses + 0.2 * bracket))
    assert result.lower_bound <= least
    assert least - 0.01 <= result.objective <= least * (1 + GAP)


def test_a_larger_layer_is_proven_by_two_solvers() -> None:
    problem = make_relu_layer(1, sizes=(2,) * 5, samples=16, strength=1.0, outputs=2)
    first, second = solve_relu_branch(problem, 1e-4, 60.0), solve_relu(problem, 1e-3, 60.0)
    assert first.status == second.status == Status.OPTIMAL
    assert first.objective == pytest.approx(second.objective, rel=1e-3)
    assert max(first.lower_bound, second.lower_bound) <= min(first.objective, second.objective) * (1 + 1e-9)


def test_targets_of_zero_keep_nothing() -> None:
    plain = make_relu_layer(0)
    problem = LayerProblem(plain.X, 0 * plain.Y, plain.labels, make_regulariser(), 1.0, loss="relu")
    for solve in (solve_relu, solve_relu_branch):
        result = solve(problem, GAP, 10.0)
        assert result.objective == result.lower_bound == 0.0
        assert not np.any(result.indicators)
        result.certificate.check(problem)
