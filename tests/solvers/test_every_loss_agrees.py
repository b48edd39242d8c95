"""Every loss, with and without a count of groups: the backends find enumeration's optimum, with bounds that hold."""

from itertools import product

import cvxpy as cp
import numpy as np
import pytest
from loss_cases import KINKED, LOSSES, make_loss_layer

from perspective import declare, derive
from solvers import LayerProblem, Result, solve_exact, solve_relaxation
from solvers.fit import fit_support
from solvers.reduced import reduce

GAP = 1e-5
OTHER = ("absolute", "logistic", "hinge")
SHAPES = [(2, 1), (1, 1, 1), (2, 1, 2), (3,)]
HARD: dict[str, dict[str, object]] = {
    "no box": {"bound": None},
    "box binds": {"bound": 0.3},
    "several outputs": {"outputs": 2},
    "elastic cost": {"beta": 0.4},
    "duplicate columns": {"duplicate": True},
    "rank deficient": {"samples": 4},
    "zero columns": {"zero": True},
    "one group": {"sizes": (3,)},
    "all groups kept": {"strength": 1e-3},
    "everything too dear": {"strength": 1e4},
}


def check(problem: LayerProblem, truth: Result, result: Result) -> None:
    size = abs(truth.objective)
    assert truth.status == result.status == "optimal"
    assert -1e-9 * size <= result.objective - truth.objective <= GAP * size
    assert result.lower_bound <= truth.objective + 1e-9 * size
    assert result.certificate.bound <= truth.objective
    assert result.objective == problem.objective(result.weights, result.indicators)
    assert problem.at_most is None or np.sum(result.indicators) <= problem.at_most
    result.certificate.check(problem)


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("loss", LOSSES)
def test_branch_finds_the_optimum_of_random_layers(loss: str, seed: int) -> None:
    """With the count in half of them: 96 problems."""
    sizes = SHAPES[seed % len(SHAPES)]
    count = None if seed % 2 else max(1, len(sizes) - 1)
    problem = make_loss_layer(loss, seed, sizes=sizes, samples=12, at_most=count)
    truth = solve_exact(problem, gap=GAP, backend="enumerate")
    truth.certificate.check(problem)
    check(problem, truth, solve_exact(problem, gap=GAP, backend="branch"))


@pytest.mark.parametrize("seed", range(24, 44))
@pytest.mark.parametrize("loss", LOSSES)
def test_highs_finds_the_optimum_of_random_layers(loss: str, seed: int) -> None:
    """80 problems."""
    sizes = SHAPES[seed % 2]
    problem = make_loss_layer(loss, seed, sizes=sizes, samples=10, at_most=None if seed % 4 < 2 else 1)
    truth = solve_exact(problem, gap=GAP, backend="enumerate")
    check(problem, truth, solve_exact(problem, gap=GAP, backend="highs"))


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("loss", OTHER)
def test_hard_layers_agree(loss: str, case: str) -> None:
    """30 problems."""
    problem = make_loss_layer(loss, 5, **{"sizes": (2, 1), "samples": 12, **HARD[case]})
    truth = solve_exact(problem, gap=GAP, backend="enumerate")
    check(problem, truth, solve_exact(problem, gap=GAP))
    if case == "all groups kept" and loss != "hinge":
        assert np.all(truth.indicators)
    if case == "everything too dear":
        assert not np.any(truth.indicators)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
@pytest.mark.parametrize("loss", LOSSES)
def test_bounds_hold_in_any_units(loss: str, factor: float) -> None:
    for problem in (
        make_loss_layer(loss, 3, sizes=(2, 1), samples=10, scale=factor),
        make_loss_layer(loss, 3, sizes=(2, 1), samples=10, target_scale=factor),
    ):
        truth = solve_exact(problem, gap=GAP, backend="enumerate")
        relaxed = solve_relaxation(problem)
        relaxed.certificate.check(problem)
        assert relaxed.lower_bound <= truth.objective * (1 + 1e-12)
        check(problem, truth, solve_exact(problem, gap=GAP, backend="branch"))


def optimum_by_cvxpy(problem: LayerProblem) -> float:
    """All supports by a conic solver: shares no code with us."""
    a, bound, best = problem.regulariser.quadratic[0], problem.regulariser.bound, np.inf
    Y = problem.targets2d
    for support in product((0, 1), repeat=problem.n_groups):
        if problem.at_most is not None and sum(support) > problem.at_most:
            continue
        W = cp.Variable((problem.X.shape[1], Y.shape[1]))
        P = problem.X @ W
        loss = {
            "squared": lambda P=P: cp.sum_squares(P - Y),
            "absolute": lambda P=P: cp.norm1(cp.vec(P - Y, order="F")),
            "logistic": lambda P=P: cp.sum(cp.logistic(-cp.multiply(Y, P))),
            "hinge": lambda P=P: cp.sum(cp.pos(1 - cp.multiply(Y, P))),
        }[problem.loss]()
        off = ~np.array(support, dtype=bool)[problem.labels]
        rows = [cp.abs(W) <= bound] + ([W[np.flatnonzero(off)] == 0] if off.any() else [])
        program = cp.Problem(cp.Minimize(loss + problem.strength * a * cp.sum_squares(W)), rows)
        program.solve(solver=cp.CLARABEL)
        best = min(best, program.value + problem.strength * problem.regulariser.price * sum(support))
    return float(best)


@pytest.mark.parametrize("count", [None, 1])
@pytest.mark.parametrize("loss", LOSSES)
def test_enumeration_is_the_truth(loss: str, count: int | None) -> None:
    problem = make_loss_layer(loss, 8, sizes=(1, 2, 1), at_most=count)
    result = solve_exact(problem, backend="enumerate")
    assert result.objective == pytest.approx(optimum_by_cvxpy(problem), rel=1e-6)
    assert result.nodes == (8 if count is None else 4)


@pytest.mark.parametrize("loss", OTHER)
def test_a_fixed_support_is_fitted_to_ten_digits(loss: str) -> None:
    for case in HARD.values():
        problem = make_loss_layer(loss, 2, **{"sizes": (2, 1), "samples": 12, **case})
        for support in product((False, True), repeat=problem.n_groups):
            point = fit_support(reduce(problem), np.array(support))
            assert point.primal - point.dual <= 2e-10 * abs(point.primal)


@pytest.mark.parametrize("loss", OTHER)
def test_any_declared_cost_is_solved(loss: str) -> None:
    plain = make_loss_layer(loss, 2, sizes=(1, 1), samples=8)
    regulariser = derive(declare("alpha*s**3", price="1-alpha", bound="M")).bind(alpha=0.3, M=1.2)
    problem = LayerProblem(plain.X, plain.Y, plain.labels, regulariser, plain.strength, loss)
    relaxed = solve_relaxation(problem)
    relaxed.certificate.check(problem)
    assert relaxed.gap <= 1e-6
    truth = solve_exact(problem, gap=1e-4, backend="enumerate")
    assert relaxed.objective <= truth.objective * (1 + 1e-6)
    assert solve_exact(problem, gap=1e-4, backend="branch").objective == pytest.approx(truth.objective, rel=1e-4)


@pytest.mark.parametrize("loss", KINKED)
def test_kinked_losses_default_to_highs(loss: str) -> None:
    problem = make_loss_layer(loss, 1, sizes=(1, 1), samples=6)
    assert solve_exact(problem).backend == "highs"
    assert solve_exact(make_loss_layer("logistic", 1, sizes=(1, 1), samples=6)).backend == "branch"
