"""Every backend finds the optimum that enumeration finds, with a valid bound within the gap asked for."""

import numpy as np
import pytest
from layer_cases import CASES, make_layer, optimum_by_least_squares

from perspective import declare, derive
from solvers import LayerProblem, solve_exact, solve_relaxation
from solvers.fit import fit_support
from solvers.reduced import reduce

GAP = 1e-5


@pytest.mark.parametrize("backend", ["branch", "highs"])
@pytest.mark.parametrize("case", CASES)
def test_backend_agrees_with_enumeration(case: str, backend: str) -> None:
    problem = make_layer(11, **CASES[case])
    truth = solve_exact(problem, gap=GAP, backend="enumerate")
    result = solve_exact(problem, gap=GAP, backend=backend)
    size = abs(truth.objective)
    assert truth.status == result.status == "optimal"
    assert -1e-9 * size <= result.objective - truth.objective <= GAP * size
    assert result.lower_bound <= truth.objective + 1e-9 * size
    assert result.gap <= GAP
    assert result.weights.shape == (problem.X.shape[1], *problem.Y.shape[1:])
    assert result.objective == problem.objective(result.weights, result.indicators)
    assert result.certificate.bound <= truth.objective
    result.certificate.check(problem)
    truth.certificate.check(problem)


@pytest.mark.parametrize(
    "case", ["plain", "no box", "box binds", "several outputs", "duplicate columns", "zero columns"]
)
def test_enumeration_is_the_truth(case: str) -> None:
    problem = make_layer(5, **CASES[case])
    result = solve_exact(problem, backend="enumerate")
    assert result.objective == pytest.approx(optimum_by_least_squares(problem), rel=1e-9)
    assert result.nodes == 2**problem.n_groups


@pytest.mark.parametrize("cost", ["alpha*s**3", "alpha*s**1.5", "alpha*(cosh(s) - 1)"])
def test_any_declared_cost_is_solved(cost: str) -> None:
    regulariser = derive(declare(cost, price="1-alpha", bound="M")).bind(alpha=0.3, M=1.2)
    plain = make_layer(2, sizes=(2, 1, 2))
    problem = LayerProblem(plain.X, plain.Y, plain.labels, regulariser, 3.0)
    truth = solve_exact(problem, gap=GAP, backend="enumerate")
    relaxed = solve_relaxation(problem)
    relaxed.certificate.check(problem)
    assert relaxed.gap <= 1e-8
    assert relaxed.objective <= truth.objective * (1 + 1e-9)
    for backend in ("branch", "highs"):
        result = solve_exact(problem, gap=GAP, backend=backend)
        assert result.status == "optimal"
        assert result.objective == pytest.approx(truth.objective, rel=GAP)


def test_larger_layers_are_proven_by_two_backends() -> None:
    problem = make_layer(4, sizes=(2,) * 16, samples=80, strength=8.0)
    branch = solve_exact(problem, backend="branch")
    highs = solve_exact(problem, backend="highs")
    branch.certificate.check(problem)
    assert branch.status == highs.status == "optimal"
    assert branch.objective == pytest.approx(highs.objective, rel=1e-4)
    assert 0 < np.sum(branch.indicators) < 16


def test_targets_of_zero_keep_nothing() -> None:
    plain = make_layer(0)
    problem = LayerProblem(plain.X, 0 * plain.Y, plain.labels, plain.regulariser, 1.0)
    for backend in ("branch", "highs", "enumerate"):
        result = solve_exact(problem, backend=backend)
        assert result.objective == 0.0
        assert not np.any(result.indicators)


@pytest.mark.parametrize("case", CASES)
def test_a_fixed_support_is_fitted_to_ten_digits(case: str) -> None:
    problem = make_layer(8, **CASES[case])
    reduced = reduce(problem)
    for code in range(2 ** min(problem.n_groups, 3)):
        support = ((code >> np.arange(problem.n_groups)) & 1).astype(bool)
        point = fit_support(reduced, support)
        assert point.primal - point.dual <= 2e-10 * abs(point.primal)
        assert problem.objective(point.weights, support) == pytest.approx(point.primal, rel=1e-9)
