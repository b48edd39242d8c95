"""A ReLU certificate rejects corruption; limits, failures and bad requests are reported, never hidden."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from relu_cases import make_relu_layer

from perspective import declare, derive
from perspective.errors import CheckFailed, InputError
from solvers import LayerProblem
from solvers.relu import solve as module
from solvers.relu.branch import solve_relu_branch
from solvers.relu.certificate import ReluCertificate, prove
from solvers.relu.incumbent import Incumbent
from solvers.relu.ranges import Ranges
from solvers.relu.solve import enumerate_relu, solve_relu
from solvers.result import Status


@pytest.fixture(scope="module")
def proof() -> tuple[LayerProblem, ReluCertificate]:
    problem = make_relu_layer(3, bound=None, strength=0.3)
    result = solve_relu_branch(problem, 1e-5, 30.0)
    assert len(result.certificate.leaves) > 2
    result.certificate.check(problem)
    return problem, result.certificate


@pytest.mark.parametrize("factor", [0.0, 0.9, 1.5, -1.0])
def test_a_corrupted_dual_point_is_rejected(factor: float, proof: tuple[LayerProblem, ReluCertificate]) -> None:
    problem, certificate = proof
    leaves, ranges = list(certificate.leaves), Ranges(problem, certificate.bound)
    tight = min(range(len(leaves)), key=lambda k: prove(problem, ranges, leaves[k]).value)
    leaves[tight] = replace(leaves[tight], dual=factor * leaves[tight].dual)
    with pytest.raises(CheckFailed, match="proves"):
        replace(certificate, leaves=tuple(leaves)).check(problem)


def test_a_larger_claim_is_rejected(proof: tuple[LayerProblem, ReluCertificate]) -> None:
    problem, certificate = proof
    with pytest.raises(CheckFailed, match="claims"):
        replace(certificate, bound=certificate.bound * 1.001).check(problem)


def test_each_leaf_is_needed(proof: tuple[LayerProblem, ReluCertificate]) -> None:
    problem, certificate = proof
    for k in range(len(certificate.leaves)):
        with pytest.raises(CheckFailed, match="cover"):
            replace(certificate, leaves=certificate.leaves[:k] + certificate.leaves[k + 1 :]).check(problem)


def test_malformed_certificates_are_rejected(proof: tuple[LayerProblem, ReluCertificate]) -> None:
    problem, certificate = proof
    leaf = certificate.leaves[0]
    wrong: list[Any] = [
        replace(leaf, dual=leaf.dual[:-1]),
        replace(leaf, dual=leaf.dual * np.nan),
        replace(leaf, off=(7,)),
        replace(leaf, active=(1, 1)),
    ]
    for bad in wrong:
        with pytest.raises(CheckFailed):
            replace(certificate, leaves=(bad, *certificate.leaves[1:])).check(problem)
    with pytest.raises(CheckFailed, match="bound is"):
        replace(certificate, bound=np.inf).check(problem)
    with pytest.raises(CheckFailed, match="relu"):
        certificate.check(LayerProblem(problem.X, problem.Y, problem.labels, problem.regulariser, problem.strength))


@pytest.mark.parametrize("limit", [1e-3, 0.3])
def test_an_interrupted_run_gives_a_point_and_a_valid_bound(limit: float) -> None:
    problem = make_relu_layer(2, sizes=(3,) * 8, samples=40, outputs=3, strength=0.2, bound=None)
    for solve in (solve_relu, solve_relu_branch):
        result = solve(problem, 1e-6, limit)
        assert result.status == Status.TIME_LIMIT
        assert np.isfinite(result.objective)
        assert 0 <= result.lower_bound <= result.objective
        assert result.objective == problem.objective(result.weights)
        assert result.seconds < limit + 5
        result.certificate.check(problem)


def test_an_interrupted_enumeration_keeps_a_valid_bound() -> None:
    problem = make_relu_layer(2, sizes=(1,) * 8, samples=12, strength=0.2)
    result = enumerate_relu(problem, 1e-6, 0.05)
    assert result.status == Status.TIME_LIMIT
    assert 0 <= result.lower_bound + 1e-9 <= result.objective
    result.certificate.check(problem)
    with pytest.raises(InputError, match="enumeration"):
        enumerate_relu(make_relu_layer(2, sizes=(1,) * 13), 1e-6, 1.0)


def test_a_failing_solver_gives_no_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.ReluMaster, "solve", lambda *arguments: Status.FAILED)
    result = solve_relu(make_relu_layer(0), 1e-4, 10.0)
    assert result.status == Status.FAILED
    assert result.weights is None
    assert result.certificate is None


def test_a_bound_that_a_point_contradicts_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """HiGHS claims twice the optimum: the answer keeps the bound that is proven."""
    problem = make_relu_layer(3)
    truth = solve_relu_branch(problem, 1e-5, 30.0)
    monkeypatch.setattr(module.ReluMaster, "lower_bound", lambda master: 2 * truth.objective)
    result = solve_relu(problem, 1e-5, 30.0)
    assert result.objective == pytest.approx(truth.objective, rel=1e-5)
    assert result.lower_bound == result.certificate.bound <= truth.objective


def test_a_box_that_binds_is_reported() -> None:
    tight, wide = (solve_relu_branch(make_relu_layer(3, bound=bound), 1e-4, 20.0) for bound in (0.1, 50.0))
    assert "the box binds" in tight.notes[0]
    assert wide.notes == ()


def test_a_point_from_anywhere_respects_the_count() -> None:
    problem = make_relu_layer(4, at_most=1, strength=0.01)
    incumbent = Incumbent(problem)
    incumbent.improve(np.ones(3, dtype=bool), np.full((5, 1), 0.1))
    assert np.count_nonzero(incumbent.support) <= 1


def test_bad_requests_are_one_sentence() -> None:
    plain = make_relu_layer(0)
    squared = LayerProblem(plain.X, plain.Y, plain.labels, plain.regulariser, 1.0)
    for solve in (solve_relu, solve_relu_branch):
        with pytest.raises(InputError, match="loss='relu'"):
            solve(squared, 1e-4, 1.0)
    flat = derive(declare("alpha*s", price="1-alpha", bound=None)).bind(alpha=0.5)
    grown = solve_relu_branch(LayerProblem(plain.X, plain.Y, plain.labels, flat, 0.3, loss="relu"), 1e-4, 20.0)
    assert grown.status == Status.OPTIMAL  # a linear cost grows: no box is needed
    many = np.ones((2001, 1))
    with pytest.raises(InputError, match="fewer samples"):
        solve_relu(LayerProblem(many, many[:, 0], [0], plain.regulariser, 1.0, loss="relu"), 1e-4, 1.0)
