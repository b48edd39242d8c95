"""Bad input is refused by one sentence that names the cure, from every door."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy
from layer_cases import make_layer, make_regulariser

from perspective import IndicatorBlock, InputError, NumericRegularizer, declare, derive
from solvers import LayerProblem, bound_chain, solve_exact, solve_relaxation, to_pyomo

X, Y, G = np.ones((4, 3)), np.ones(4), np.array([0, 0, 1])


def problem(**changed: Any) -> LayerProblem:
    given = {"inputs": X, "targets": Y, "groups": G, "regulariser": make_regulariser(), "strength": 1.0}
    return LayerProblem(**{**given, **changed})


def other_cost() -> LayerProblem:
    return problem(regulariser=derive(declare("alpha*s**3", price="1-alpha", bound="M")).bind(alpha=0.5, M=1.0))


def radial() -> NumericRegularizer:
    s = sympy.Symbol("s")
    return derive(IndicatorBlock(s**2, s, 1, bound=1, radial=True)).bind()


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "nan inputs": (lambda: problem(inputs=np.where(X == 1, np.nan, X)), "inputs contain NaN or inf"),
    "inf targets": (lambda: problem(targets=Y * np.inf), "targets contain NaN or inf"),
    "complex inputs": (lambda: problem(inputs=X + 1j), "inputs must be an array of numbers, not complex128"),
    "dates": (lambda: problem(targets=np.zeros(4, dtype="datetime64[s]")), "targets must be an array of numbers, not"),
    "numbers as text": (lambda: problem(inputs=np.full((4, 3), "1.5")), "inputs must be an array of numbers, not"),
    "objects": (lambda: problem(targets=np.array([1.0, 2, None, 3], dtype=object)), "not object"),
    "huge inputs": (lambda: problem(inputs=X * 1e200), "rescale the data"),
    "huge targets": (lambda: problem(targets=Y * 1e308), "rescale the data"),
    "huge long targets": (lambda: problem(targets=Y.astype(np.longdouble) * 1e308 * 1e4), "targets"),
    "relaxation's time limit": (lambda: solve_relaxation(problem(), time_limit=0.0), "time_limit must be a positive"),
    "text": (lambda: problem(inputs="abc"), "inputs must be an array of numbers"),
    "inputs of one dimension": (lambda: problem(inputs=Y), "inputs must have shape"),
    "no samples": (lambda: problem(inputs=X[:0], targets=Y[:0]), "inputs must have shape"),
    "targets too short": (lambda: problem(targets=Y[:3]), "targets must have shape"),
    "labels too short": (lambda: problem(groups=G[:2]), "one label per input feature"),
    "labels not integer": (lambda: problem(groups=G + 0.5), "groups must be integers"),
    "strength zero": (lambda: problem(strength=0.0), "strength must be finite and > 0"),
    "strength nan": (lambda: problem(strength=np.nan), "strength must be finite and > 0"),
    "strength text": (lambda: problem(strength="much"), "strength must be one number"),
    "loss": (lambda: problem(loss="cubic"), "unknown loss 'cubic'; valid ones: squared"),
    "symbolic regulariser": (lambda: problem(regulariser=derive(declare("s**2", "1"))), "pass derive"),
    "radial": (lambda: problem(regulariser=radial()), "symmetric box"),
    "backend": (lambda: solve_exact(problem(), backend="magic"), "valid ones: branch, highs, scip, enumerate"),
    "loss not text": (lambda: problem(loss=["hinge"]), "unknown loss"),
    "classes 0 and 1": (
        lambda: problem(loss="logistic", targets=[0.0, 1, 1, 0]),
        "logistic loss needs targets -1 or 1",
    ),
    "hinge on numbers": (lambda: problem(loss="hinge", targets=[0.5, 1, 1, -1]), "hinge loss needs targets -1 or 1"),
    "at most none": (lambda: problem(at_most=0), "at_most must be a whole number of groups between 1 and 2"),
    "at most too many": (lambda: problem(at_most=3), "between 1 and 2, not 3"),
    "at most a fraction": (lambda: problem(at_most=1.5), "whole number"),
    "at most true": (lambda: problem(at_most=True), "whole number"),
    "strengthening": (lambda: solve_exact(problem(), strengthen="much"), "valid ones: none, uniform, sdp, blocks"),
    "strengthened cuts": (lambda: solve_exact(problem(), backend="highs", strengthen="sdp"), "needs backend='branch'"),
    "strengthened hinge": (
        lambda: solve_exact(problem(loss="hinge"), backend="branch", strengthen="sdp"),
        "the squared loss",
    ),
    "SCIP behind a relu": (lambda: solve_exact(problem(loss="relu"), backend="scip"), "use 'highs' or 'branch'"),
    "relaxation behind a relu": (lambda: solve_relaxation(problem(loss="relu")), "backend='highs'"),
    "cone behind a relu": (lambda: solve_relaxation(problem(loss="relu"), "cone"), "backend='highs'"),
    "big-M behind a relu": (lambda: solve_relaxation(problem(loss="relu"), "big_m"), "backend='highs'"),
    "chain behind a relu": (lambda: bound_chain(problem(loss="relu")), "backend='highs'"),
    "pyomo behind a relu": (lambda: to_pyomo(problem(loss="relu")), "backend='highs'"),
    "gap": (lambda: solve_exact(problem(), gap=0.0), "gap must be between"),
    "gap nan": (lambda: solve_exact(problem(), gap=float("nan")), "gap must be between"),
    "time limit": (lambda: solve_exact(problem(), time_limit=0), "time_limit must be a positive"),
    "kind": (lambda: solve_relaxation(problem(), "tight"), "valid ones: big_m, cone, projected"),
    "too many groups": (lambda: solve_exact(make_layer(sizes=(1,) * 13), backend="enumerate"), "backend='branch'"),
    "cone of another cost": (lambda: solve_relaxation(other_cost(), "cone"), "kind='projected'"),
    "chain of another cost": (lambda: bound_chain(other_cost()), "kind='projected'"),
    "pyomo of another cost": (lambda: to_pyomo(other_cost()), "backend='highs'"),
    "formulation": (lambda: to_pyomo(problem(), "convex"), "valid ones: bigm, hull"),
    "weights of the wrong shape": (lambda: problem().objective(np.ones(2)), "weights must have shape"),
    "weights nan": (lambda: problem().relaxed(np.full(3, np.nan)), "weights contain NaN"),
    "indicators": (lambda: problem().objective(np.ones(3), [0.5, 1]), "zeros or ones"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused(what: str) -> None:
    call, words = BAD[what]
    with pytest.raises(InputError) as raised:
        call()
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("highspy", lambda: solve_exact(make_layer(), backend="highs")),
        ("pyscipopt", lambda: solve_exact(make_layer(), backend="scip")),
        ("cvxpy", lambda: solve_relaxation(make_layer(), "cone")),
        ("pyomo.environ", lambda: to_pyomo(make_layer())),
    ],
)
def test_a_missing_solver_names_its_install(
    module: str, call: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match="pip install"):
        call()
