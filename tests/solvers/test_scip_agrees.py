"""SCIP, handed the perspective formulation, finds what enumeration finds, under every loss, with a valid bound."""

import sys

import numpy as np
import pytest
from layer_cases import CASES, make_layer, optimum_by_least_squares

from perspective import declare, derive
from perspective.errors import InputError
from solvers import LayerProblem, solve_exact
from solvers.scip import solve_scip

GAP = 1e-5
LOSSES = {"absolute": 2.0, "hinge": 1.0, "logistic": 0.5}  # and the strength at which some groups go
HARD = ["plain", "no box", "box binds", "several outputs", "elastic cost without a box", "zero columns", "one group"]
MISSING = "pyscipopt is not installed; it is an extra: pip install 'perspective-pruning[scip]'"


@pytest.fixture
def scip() -> None:
    pytest.importorskip("pyscipopt", reason=MISSING)


def with_loss(loss: str, case: str, at_most: int | None = None) -> LayerProblem:
    plain = make_layer(3, sizes=(2, 2, 1), samples=20, **CASES[case])
    targets = plain.Y if loss == "absolute" else np.where(plain.Y > 0, 1.0, -1.0)
    return LayerProblem(plain.X, targets, plain.labels, plain.regulariser, LOSSES[loss], loss=loss, at_most=at_most)


@pytest.mark.usefixtures("scip")
@pytest.mark.parametrize("case", [*HARD, "inputs in millions", "targets in millionths", "everything too dear"])
def test_scip_agrees_with_least_squares_over_all_supports(case: str) -> None:
    problem = make_layer(11, **CASES[case])
    result = solve_exact(problem, gap=GAP, time_limit=20.0, backend="scip")
    if problem.regulariser.quadratic[1] == 0:
        truth = optimum_by_least_squares(problem)
    else:
        truth = solve_exact(problem, gap=1e-6, backend="enumerate").objective
    assert result.status == "optimal"
    assert result.backend == "scip"
    assert -1e-9 * truth <= result.objective - truth <= GAP * truth
    assert result.lower_bound <= truth * (1 + 1e-9)
    assert result.gap <= GAP
    assert result.objective == problem.objective(result.weights, result.indicators)
    assert result.certificate.bound <= result.lower_bound
    result.certificate.check(problem)


@pytest.mark.usefixtures("scip")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case", ["plain", "no box"])
def test_scip_agrees_with_enumeration_under_every_loss(loss: str, case: str) -> None:
    problem = with_loss(loss, case)
    truth = solve_exact(problem, gap=1e-6, backend="enumerate").objective
    result = solve_scip(problem, GAP, 20.0)
    assert result.status == "optimal"
    assert result.objective == pytest.approx(truth, rel=GAP)
    assert result.lower_bound <= truth * (1 + 1e-6)
    result.certificate.check(problem)


@pytest.mark.usefixtures("scip")
def test_a_count_is_kept() -> None:
    free, counted = (solve_scip(with_loss("hinge", "plain", k), GAP, 20.0) for k in (None, 1))
    assert np.sum(free.indicators) > 1 >= np.sum(counted.indicators)
    assert counted.objective > free.objective * (1 + 1e-3)
    assert counted.status == "optimal"


@pytest.mark.usefixtures("scip")
def test_an_interrupted_search_keeps_a_point_and_a_valid_bound() -> None:
    problem = make_layer(4, sizes=(3,) * 24, samples=80, strength=8.0)
    result = solve_scip(problem, 1e-6, 0.5)
    best = solve_exact(problem, gap=1e-3, time_limit=1.0, backend="branch")
    assert result.status == "time_limit"
    assert result.objective == problem.objective(result.weights, result.indicators)
    assert result.lower_bound <= best.objective
    assert np.isfinite(result.lower_bound)
    assert result.gap > 1e-6
    result.certificate.check(problem)


@pytest.mark.usefixtures("scip")
@pytest.mark.parametrize("said", ["infeasible", "unbounded", "memlimit"])
def test_no_result_when_scip_fails(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyscipopt

    monkeypatch.setattr("pyscipopt.Model", _Saying(pyscipopt.Model, said))
    result = solve_scip(make_layer(0), GAP, 20.0)
    assert result.status == ("infeasible" if said == "infeasible" else "failed")
    assert result.weights is None
    assert result.certificate is None
    assert result.objective == np.inf


@pytest.mark.usefixtures("scip")
@pytest.mark.parametrize("wrong", ["box too small", "price forgotten"])
def test_wrong_models_are_exposed(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make_layer(11)
    truth = optimum_by_least_squares(problem)
    if wrong == "box too small":
        monkeypatch.setattr("solvers.scip_model.weight_bound", lambda problem, objective: 0.2)
    else:
        cheap = make_layer(11, strength=0.01)
        monkeypatch.setattr("solvers.scip.build_scip", lambda reduced: _build(cheap))
    result = solve_scip(problem, GAP, 20.0)
    assert result.status != "optimal" or abs(result.objective - truth) > GAP * truth or result.lower_bound > truth


def test_a_missing_pyscipopt_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyscipopt", None)
    with pytest.raises(InputError, match=r"pip install 'perspective-pruning\[scip\]'"):
        solve_scip(make_layer(0), GAP, 20.0)


@pytest.mark.usefixtures("scip")
def test_a_cost_that_scip_cannot_model_is_one_sentence() -> None:
    regulariser = derive(declare("alpha*s**3", price="1-alpha", bound="M")).bind(alpha=0.3, M=1.2)
    plain = make_layer(2, sizes=(2, 1, 2))
    with pytest.raises(InputError, match="backend='highs'"):
        solve_scip(LayerProblem(plain.X, plain.Y, plain.labels, regulariser, 3.0), GAP, 20.0)


class _Saying:
    """A solver that does its work and reports a status of its own."""

    def __init__(self, model: type, said: str) -> None:
        self.model, self.said = model, said

    def __call__(self) -> object:
        said = self.said

        class Model(self.model):
            def getStatus(self) -> str:
                return said

        return Model()


def _build(problem: LayerProblem) -> object:
    from solvers.reduced import reduce
    from solvers.scip_model import build_scip

    return build_scip(reduce(problem))
