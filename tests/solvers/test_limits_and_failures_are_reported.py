"""A time limit or a solver's failure shows in the status, with a valid bound or with nothing: never as a result."""

from dataclasses import replace

import numpy as np
import pytest
from layer_cases import make_layer, make_spread_layer, optimum_by_least_squares

from perspective import CheckFailed
from solvers import (
    LayerProblem,
    Result,
    Status,
    bound_chain,
    chain,
    cone,
    cuts,
    projected,
    solve_exact,
    solve_relaxation,
)
from solvers.result import no_result


@pytest.fixture(scope="module")
def slow_problem() -> LayerProblem:
    return make_layer(0, sizes=(3,) * 12, samples=30, strength=6.0)


@pytest.mark.parametrize("backend", ["branch", "highs", "enumerate"])
def test_a_tiny_time_limit_is_reported_with_a_valid_bound(slow_problem: LayerProblem, backend: str) -> None:
    result = solve_exact(slow_problem, gap=1e-8, time_limit=1e-4, backend=backend)
    optimum = solve_exact(slow_problem, gap=1e-8).objective
    assert result.status == "time_limit"
    assert result.objective == slow_problem.objective(result.weights)
    assert result.lower_bound <= optimum <= result.objective
    assert result.gap > 1e-8
    result.certificate.check(slow_problem)


@pytest.mark.parametrize("backend", ["branch", "highs"])
def test_a_time_limit_keeps_the_obvious_choice(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make_spread_layer()
    optimum = optimum_by_least_squares(problem)
    monkeypatch.setattr(projected, "polish", lambda reduced, states, weights: weights)  # relaxations too slow to help
    result = solve_exact(problem, gap=1e-8, time_limit=1.0, backend=backend)
    assert result.objective == pytest.approx(optimum, rel=1e-9)
    assert optimum == pytest.approx(2570.7759648671, rel=1e-9)
    assert result.lower_bound <= optimum
    result.certificate.check(problem)


def test_spread_curvature_inside_a_group_is_solved_to_nine_digits() -> None:
    problem = make_spread_layer()
    relaxed = solve_relaxation(problem)
    assert relaxed.status == "optimal"
    assert relaxed.nodes < 2000
    assert solve_exact(problem, gap=1e-6, time_limit=10.0, backend="highs").status == "optimal"


def test_a_relaxation_keeps_its_time_limit(slow_problem: LayerProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = solve_relaxation(slow_problem).objective
    monkeypatch.setattr(projected, "polish", lambda reduced, states, weights: weights)
    monkeypatch.setattr(projected, "can_descend_blocks", lambda problem: False)  # it is through in time
    result = solve_relaxation(make_spread_layer(), time_limit=0.1)
    assert result.status == "time_limit"
    assert result.seconds < 2
    assert result.lower_bound <= solve_relaxation(make_spread_layer(), "cone").objective
    short = solve_relaxation(slow_problem, time_limit=1e-6)
    assert short.status == "time_limit"
    assert short.lower_bound <= truth <= short.objective == slow_problem.relaxed(short.weights)
    short.certificate.check(slow_problem)


def test_the_chain_takes_a_relaxation_within_its_own_tolerance() -> None:
    problem = make_layer(1)
    good = solve_relaxation(problem)
    near = replace(good, status=Status.FEASIBLE, lower_bound=good.objective * (1 - 0.9e-5))
    far = replace(good, status=Status.FEASIBLE, lower_bound=good.objective * (1 - 1.1e-5))
    assert chain._solved(near) is near
    with pytest.raises(CheckFailed, match="rescale the columns"):
        chain._solved(far)


def test_a_chain_cut_short_says_so(slow_problem: LayerProblem) -> None:
    chain = bound_chain(slow_problem, time_limit=1e-4)
    assert chain.status == "time_limit"
    assert chain.lower_bound <= chain.exact
    chain.certificate.check(slow_problem)


@pytest.mark.parametrize("status", [Status.FAILED, Status.INFEASIBLE])
def test_a_failing_milp_gives_no_result(status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make_layer(1, sizes=(2,) * 6, strength=8.0)
    monkeypatch.setattr(cuts.Master, "solve", lambda *arguments: status)
    result = solve_exact(problem, gap=1e-8, backend="highs")
    assert result.status == status
    _holds_nothing(result)
    with pytest.raises(CheckFailed, match="HiGHS gave no answer"):
        bound_chain(problem)


@pytest.mark.parametrize("status", [Status.FAILED, Status.INFEASIBLE])
def test_a_failing_conic_solver_gives_no_result(status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make_layer(1)
    monkeypatch.setattr(cone, "solve_conic", lambda program: status)
    result = solve_relaxation(problem, "cone")
    assert result.status == status
    _holds_nothing(result)
    with pytest.raises(CheckFailed, match="cone relaxation was not solved"):
        bound_chain(problem)


def test_a_conic_solver_that_lies_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make_layer(1)
    solve = cone.solve_conic

    def lie(program: object) -> Status:
        status = solve(program)
        for variable in program.variables():
            variable.save_value(variable.value * 0.9)
        return status

    monkeypatch.setattr(cone, "solve_conic", lie)
    result = solve_relaxation(problem, "cone")
    assert result.status == "feasible"
    assert result.gap > 1e-4
    with pytest.raises(CheckFailed, match="cone relaxation was not solved"):
        bound_chain(problem)


def test_a_wrong_optimum_is_caught_by_enumeration(monkeypatch: pytest.MonkeyPatch) -> None:
    """A MILP loop that stops at its first incumbent and calls it optimal."""
    problem = make_layer(1, sizes=(2,) * 6, strength=8.0)
    monkeypatch.setattr(
        cuts, "_rounds", lambda master, incumbents, bound, gap, end: cuts.Outcome(Status.OPTIMAL, incumbents.value, 1)
    )
    monkeypatch.setattr(cuts._Incumbents, "fit", lambda self, support: None)
    monkeypatch.setattr(cuts, "probe", lambda *arguments: [])
    monkeypatch.setattr(cuts, "sweep_supports", lambda *arguments: None)
    with pytest.raises(CheckFailed, match="enumeration"):
        bound_chain(problem)


def _holds_nothing(result: Result) -> None:
    assert result.weights is None
    assert result.indicators is None
    assert result.certificate is None
    assert result.objective == np.inf
    assert result.lower_bound == -np.inf
    assert result.gap == np.inf


def test_no_result_is_no_result() -> None:
    _holds_nothing(no_result(Status.FAILED, 0.0, "any"))
