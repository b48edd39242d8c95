"""The perspective formulation as a SCIP model, in the solver's own scale.

    min  sum_i e_i + sum_j t_j + b |W| + price sum_j y_j   (strength included)
    e_i above the loss of sample i,   a ||w_j||^2 <= t_j y_j (a rotated cone),   |w_jk| <= M y_j,   y binary,  sum_j y_j <= k

The loss is written sample by sample, because one cone a square gives SCIP tighter cuts than one for their sum, and the
logistic one as exp(-e) + exp(m - e) <= 1, which SCIP sees to be convex, unlike log(1 + exp(m)).
Weights are W = unit V, and the objective is divided by the loss at zero, so that SCIP's absolute tolerances mean the same
for every layer. Where no box is declared, the one that follows from the cost is used.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from perspective.errors import InputError
from solvers.box import weight_bound
from solvers.problem import Array
from solvers.reduced import Reduced


class ScipModel(NamedTuple):
    """The model, its indicators y (p,), and what one unit of its objective is worth; `rest` is inside the objective."""

    model: Any
    indicators: list[Any]
    value: float


def load_pyscipopt() -> ModuleType:
    try:
        import pyscipopt
    except ImportError as error:
        raise InputError("pyscipopt is missing; run: pip install 'perspective-pruning[scip]'") from error
    return pyscipopt


def build_scip(reduced: Reduced) -> ScipModel:
    """InputError where the cost is not a s^2 + b s, where no box follows from it, or where pyscipopt is missing."""
    problem, scip = reduced.problem, load_pyscipopt()
    if problem.regulariser.quadratic is None:
        raise InputError("SCIP's model needs a cost a*s**2 + b*s; use backend='highs' for any other declared cost")
    a, b = problem.regulariser.quadratic
    unit, targets, value = _scale(reduced)
    bound = weight_bound(problem, problem.objective(reduced.zero())) / unit[:, 0]
    strength, (d, o) = problem.strength, reduced.zero().shape
    model = scip.Model()
    model.hideOutput()
    V = [[model.addVar(lb=-m, ub=m) for _ in range(o)] for m in bound.tolist()]
    y = [model.addVar(vtype="B") for _ in range(problem.n_groups)]
    row = _ROWS[problem.loss]
    paid = [(strength * problem.regulariser.price / value) * indicator for indicator in y]
    R = reduced.R * unit.T / targets
    T = reduced.T if problem.loss in SIGNED else reduced.T / targets
    worth = (targets**2 if problem.loss == "squared" else targets) / value
    for coefficients, goals in zip(R.tolist(), T.tolist(), strict=True):
        for k, goal in enumerate(goals):
            fitted = scip.quicksum(c * V[i][k] for i, c in enumerate(coefficients) if c != 0)
            paid.append(worth * row(scip, model, fitted, goal))
    root = np.sqrt(strength * a / value) * unit[:, 0]
    for j, members in enumerate(problem.members):
        weights = [(V[i][k], float(root[i]), float(bound[i])) for i in members for k in range(o)]
        for v, _, m in weights:
            model.addCons(v <= m * y[j])
            model.addCons(-v <= m * y[j])
        if a > 0:
            t = model.addVar(lb=0.0, ub=sum((r * m) ** 2 for _, r, m in weights))
            model.addCons(scip.quicksum((r * v) * (r * v) for v, r, _ in weights) <= t * y[j])
            paid.append(t)
    if b > 0:
        for i in range(d):
            for v in V[i]:
                paid.append((strength * b * float(unit[i, 0]) / value) * _size(model, v))
    if problem.at_most is not None:
        model.addCons(scip.quicksum(y) <= problem.at_most)
    model.setObjective(scip.quicksum(paid))
    model.addObjoffset(reduced.rest / value)
    return ScipModel(model, y, value)


def _scale(reduced: Reduced) -> tuple[Array, float, float]:
    """unit (d, 1) of the weights, the size of one target, and the loss at zero: all positive."""
    columns = np.linalg.norm(reduced.R, axis=0)
    signed = reduced.problem.loss in SIGNED
    if reduced.squared:
        targets = float(np.linalg.norm(reduced.T)) or 1.0
    else:
        targets = 1.0 if signed else float(np.mean(np.abs(reduced.T))) or 1.0
        columns = columns / np.sqrt(len(reduced.R))
    columns = np.where(columns > 0, columns, float(np.max(columns)) or 1.0)[:, None]
    value = targets**2 if reduced.squared else targets * reduced.T.size
    return targets / columns, targets, value


def _square(scip: ModuleType, model: Any, fitted: Any, goal: float) -> Any:
    residual, e = model.addVar(lb=None), model.addVar(lb=0.0)
    model.addCons(fitted - residual == goal)
    model.addCons(residual * residual <= e)
    return e


def _distance(scip: ModuleType, model: Any, fitted: Any, goal: float) -> Any:
    e = model.addVar(lb=0.0)
    model.addCons(fitted - goal <= e)
    model.addCons(goal - fitted <= e)
    return e


def _shortfall(scip: ModuleType, model: Any, fitted: Any, sign: float) -> Any:
    e = model.addVar(lb=0.0)
    model.addCons(1 - sign * fitted <= e)
    return e


def _surprise(scip: ModuleType, model: Any, fitted: Any, sign: float) -> Any:
    margin, e = model.addVar(lb=None), model.addVar(lb=0.0)
    model.addCons(sign * fitted + margin == 0)
    model.addCons(scip.exp(-1 * e) + scip.exp(margin - e) <= 1)
    return e


def _size(model: Any, v: Any) -> Any:
    size = model.addVar(lb=0.0)
    model.addCons(v <= size)
    model.addCons(-v <= size)
    return size


SIGNED = ("hinge", "logistic")
_ROWS: dict[str, Callable[[ModuleType, Any, Any, float], Any]] = {
    "squared": _square,
    "absolute": _distance,
    "hinge": _shortfall,
    "logistic": _surprise,
}
