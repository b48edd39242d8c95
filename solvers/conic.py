"""What both conic relaxations hand to cvxpy: the data in the solver's own scale, and the solver's answer, judged.

Substituting W = unit V feature by feature and dividing the objective makes every column of R and the targets of size one,
whatever the units of the data; interior-point tolerances then mean the same for every problem. The margin of the logistic
and the hinge loss is one already, so their predictions keep their size.
"""

import warnings
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, final

import numpy as np

from perspective.errors import InputError
from solvers.dual import FREE, Relaxation, tighten
from solvers.problem import Array, LayerProblem
from solvers.reduced import Reduced, reduce
from solvers.result import Certificate, Leaf, Status, certify

if TYPE_CHECKING:
    import cvxpy

TOLERANCE = 1e-10
TRUSTED = 1e-6  # a relaxation counts as solved when its own dual proves this relative gap


@dataclass(frozen=True, eq=False)
@final
class Scaled:
    """R V - T in solver units; V = W / unit; the true objective is `value` times the scaled one, plus rest.

    size: predictions X W are size times R V.
    unit, a, b (d, 1): coefficients of V^2 and |V| in solver units, strength included, like the price of an indicator.
    bound (d, o) of |V|, or None.
    """

    reduced: Reduced
    R: Array
    T: Array
    unit: Array
    size: float
    value: float
    a: Array
    b: Array
    price: float
    bound: Array | None


def scale(problem: LayerProblem, kind: str) -> Scaled:
    """Reduce and scale; InputError where the cost is not a s^2 + b s, which is what the cones here can express."""
    if problem.regulariser.quadratic is None:
        raise InputError(
            f"the {kind} relaxation needs a cost a*s**2 + b*s; use kind='projected', which takes any declared cost"
        )
    a, b = problem.regulariser.quadratic
    reduced = reduce(problem)
    columns = np.linalg.norm(reduced.R, axis=0)
    columns = np.where(columns > 0, columns, float(np.max(columns)) or 1.0)[:, None]
    if reduced.squared:
        size = float(np.linalg.norm(reduced.T)) or 1.0
        value = size**2
    else:
        size = (float(np.max(np.abs(reduced.T))) or 1.0) * float(np.sqrt(len(reduced.R)))
        value = problem.loss_value(reduced.zero()) or 1.0
    unit = size / columns
    bound, strength = problem.regulariser.bound, problem.strength
    return Scaled(
        reduced=reduced,
        R=reduced.R / columns.T,
        T=reduced.T / size,
        unit=unit,
        size=size,
        value=value,
        a=strength * a * unit**2 / value,
        b=strength * b * unit / value,
        price=strength * problem.regulariser.price / value,
        bound=None if bound is None else bound / unit @ np.ones((1, reduced.T.shape[1])),
    )


class Fit(NamedTuple):
    """The loss as a cvxpy expression in solver units, and the row that ties the predictions, None for the squared loss."""

    cost: "cvxpy.Expression"
    tie: "cvxpy.Constraint | None"

    @property
    def constraints(self) -> "list[cvxpy.Constraint]":
        return [] if self.tie is None else [self.tie]


def express_loss(scaled: Scaled, V: "cvxpy.Variable") -> Fit:
    """Predictions of their own, P = R V, so that the multipliers of that row are the dual point U."""
    cp, reduced = load_cvxpy(), scaled.reduced
    if reduced.squared:
        return Fit(cp.sum_squares(scaled.R @ V - scaled.T), None)
    P = cp.Variable(reduced.T.shape)
    return Fit(reduced.loss.express(cp, scaled.size * P, reduced.T) / scaled.value, scaled.R @ V == P)


def dual_found(scaled: Scaled, fit: Fit) -> Array | None:
    """The solver's own dual point, in the problem's units and cut to the conjugate's domain; None where it has none."""
    if fit.tie is None or fit.tie.dual_value is None or not np.all(np.isfinite(fit.tie.dual_value)):
        return None
    U = np.asarray(fit.tie.dual_value).reshape(scaled.reduced.T.shape) * (scaled.value / scaled.size)
    return scaled.reduced.loss.project(U, scaled.reduced.T)


def load_cvxpy() -> ModuleType:
    try:
        import cvxpy
    except ImportError as error:
        raise InputError("cvxpy is missing; run: pip install cvxpy clarabel") from error
    return cvxpy


def solve_conic(program: "cvxpy.Problem") -> Status:
    """Run Clarabel; OPTIMAL only where it says so. Its word is checked by the caller's dual bound."""
    cp = load_cvxpy()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Solution may be inaccurate")  # our own dual judges that
            program.solve(
                solver=cp.CLARABEL, tol_gap_abs=TOLERANCE, tol_gap_rel=TOLERANCE, tol_feas=TOLERANCE, max_iter=500
            )
    except cp.error.SolverError:
        return Status.FAILED
    if program.status in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        return Status.OPTIMAL
    return Status.INFEASIBLE if program.status in (cp.INFEASIBLE, cp.INFEASIBLE_INACCURATE) else Status.FAILED


def into_box(problem: LayerProblem, weights: Array) -> Array:
    """Cut the solver's feasibility error off at the box."""
    bound = problem.regulariser.bound
    return weights if bound is None else np.clip(weights, -bound, bound)


def into_count(problem: LayerProblem, weights: Array, y: Array) -> tuple[Array, Array]:
    """Cut the solver's feasibility error off at the count: weights and indicators shrunk by one factor just below one."""
    if problem.at_most is None or np.sum(y) <= problem.at_most:
        return weights, y
    factor = problem.at_most / float(np.sum(y))
    return weights * factor, y * factor


def prove(reduced: Reduced, weights: Array, relaxation: Relaxation, found: Array | None = None) -> Certificate:
    """One leaf with nothing fixed: the best multiple of the loss gradient at the solver's weights, or of the dual point
    `found` (of either sign: solvers differ), whichever proves more."""
    problem, states = reduced.problem, np.full(reduced.problem.n_groups, FREE, dtype=np.int8)
    starts = [reduced.dual_point(weights, 1.0)]
    if found is not None:
        starts += [found, reduced.loss.project(-found, reduced.T)]
    tried = [certify(problem, [Leaf((), (), tighten(problem, U, states, relaxation)[0])], relaxation) for U in starts]
    return max(tried, key=lambda certificate: certificate.bound)


def judge(objective: float, certificate: Certificate) -> Status:
    """OPTIMAL where our own dual confirms the solver's value, else FEASIBLE: point and bound valid, gap open."""
    close = objective - certificate.bound <= TRUSTED * max(1e-12, abs(objective))
    return Status.OPTIMAL if close else Status.FEASIBLE
