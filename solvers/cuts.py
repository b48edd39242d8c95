"""The exact program in HiGHS, by perspective cuts: a MILP in the indicators alone, re-solved with more cuts.

Every slope z supports the group's perspective (Frangioni and Gentile 2006, all tangents at once):
    sum_k y phi(w_k / y) >= z'w - y sum_k phi*(z_k),   and the loss lies above its tangents, <U, X W> - L*(U).
With z = -X'U / strength the weights cancel, and what is left is one cut for each dual point U, valid for every y:
    value(y) >= -L*(U) - strength * sum_j y_j [ sum_k phi*(z_jk) - price ].
The box is inside phi*, so no big-M row is needed and no bound has to be declared. HiGHS takes no quadratic with integers
and its lazy callback never fires, so the loop is outside: each MILP's dual bound is a lower bound, each y it proposes is
fitted exactly, an incumbent, and the cut at that fit is exact for this y: no y comes back, so the loop ends. The cuts are
the same for every convex loss; a count of groups is one more row, sum y <= k.
"""

import time
from types import ModuleType
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from perspective.errors import InputError
from solvers.branch import group_excess
from solvers.dual import FREE, OFF, ON
from solvers.fit import fit_support
from solvers.greedy import SHARE as GREEDY_SHARE
from solvers.highs_run import run_highs
from solvers.problem import Array, LayerProblem
from solvers.projected import Point, dual_of, indicators_of, minimise
from solvers.prove import prove_point
from solvers.reduced import Reduced, reduce
from solvers.result import Certificate, Leaf, Result, Status, certify, no_result, relative_gap
from solvers.sweep import sweep_supports

FEASIBILITY = 1e-9  # of HiGHS, on an objective scaled to targets of size one
SHARE = 0.25  # of the gap asked for is left to each single MILP
ROOT_GAP = 1e-8
KINKED_GAP = 1e-5  # the same for a loss with kinks, whose relaxation takes longer
ROOT_SHARE = 0.5  # of the time limit
PROBE_GAP, KINKED_PROBE_GAP = 1e-4, 1e-3


class Outcome(NamedTuple):
    status: Status
    lower_bound: float
    rounds: int


def solve_highs(problem: LayerProblem, gap: float, time_limit: float) -> Result:
    """Exact solution to the relative gap through HiGHS.

    lower_bound rests on our cuts and on HiGHS's arithmetic (tolerances 1e-9); what our duals alone prove is the
    certificate: a branch and bound tree grown from the answer in the time that is left, else the root's relaxation.
    Status FAILED, without a point, where HiGHS fails.
    """
    begin = time.perf_counter()
    deadline = begin + time_limit
    reduced, states = reduce(problem), np.full(problem.n_groups, FREE, dtype=np.int8)
    incumbents = _Incumbents(reduced, deadline)
    greedy_end = begin + GREEDY_SHARE * time_limit
    sweep_supports(
        lambda support: incumbents.fit(support, greedy_end).primal, problem.n_groups, problem.at_most, greedy_end
    )
    master = Master(reduced)
    root_end = begin + ROOT_SHARE * time_limit  # coarser cuts are cuts too
    root_gap = ROOT_GAP if reduced.loss.smooth else KINKED_GAP
    root = minimise(reduced, states, incumbents.weights, tolerance=root_gap, deadline=root_end)
    proof = certify(problem, [Leaf((), (), dual_of(reduced, root))])
    master.cut(root)
    incumbents.fit(indicators_of(problem, root.weights) >= 0.5)
    for point in probe(reduced, root, deadline):
        master.cut(point)
    outcome = _rounds(master, incumbents, proof.bound, gap, deadline)
    if outcome.status in (Status.FAILED, Status.INFEASIBLE):
        return no_result(outcome.status, time.perf_counter() - begin, "highs")
    left = deadline - time.perf_counter()
    return Result(
        status=outcome.status,
        objective=incumbents.value,
        lower_bound=min(outcome.lower_bound, incumbents.value),
        weights=problem.shaped(incumbents.weights),
        indicators=problem.kept(incumbents.weights),
        seconds=time.perf_counter() - begin,
        nodes=outcome.rounds,
        backend="highs",
        certificate=_prove(reduced, incumbents.weights, proof, gap, left),
    )


def probe(reduced: Reduced, root: Point, deadline: float) -> list[Point]:
    """The relaxation with each group in turn fixed off and on: 2 p dual points, hence cuts, around the root."""
    points: list[Point] = []
    tolerance = PROBE_GAP if reduced.loss.smooth else KINKED_PROBE_GAP
    for group in range(reduced.problem.n_groups):
        for state in (OFF, ON):
            if time.perf_counter() > deadline:
                return points
            states = np.full(reduced.problem.n_groups, FREE, dtype=np.int8)
            states[group] = state
            start = root.weights.copy()
            if state == OFF:
                start[reduced.problem.members[group]] = 0.0
            points.append(minimise(reduced, states, start, tolerance=tolerance, deadline=deadline))
    return points


def _rounds(master: "Master", incumbents: "_Incumbents", bound: float, gap: float, deadline: float) -> Outcome:
    """MILPs with cuts, until the gap is reached."""
    lower_bound, rounds, proposed = bound, 0, set[bytes]()
    while relative_gap(incumbents.value, lower_bound) > gap:
        if time.perf_counter() > deadline:
            return Outcome(Status.TIME_LIMIT, lower_bound, rounds)
        status = master.solve(deadline - time.perf_counter(), SHARE * gap, incumbents.support, incumbents.value)
        rounds += 1
        if status in (Status.FAILED, Status.INFEASIBLE):
            return Outcome(status, lower_bound, rounds)
        lower_bound = max(lower_bound, master.lower_bound())
        if status is Status.TIME_LIMIT:
            return Outcome(status, lower_bound, rounds)
        support = master.support()
        point = incumbents.fit(support)
        if support.tobytes() in proposed and relative_gap(incumbents.value, lower_bound) > gap:
            return Outcome(Status.FEASIBLE, lower_bound, rounds)  # the cut is exact there: only rounding is left
        proposed.add(support.tobytes())
        master.cut(point)
        for flipped in np.eye(len(support), dtype=bool) ^ support:  # its neighbours cost far less than another MILP
            if master.most is None or np.count_nonzero(flipped) <= master.most:
                master.cut(incumbents.fit(flipped))
    return Outcome(Status.OPTIMAL, lower_bound, rounds)


def _prove(reduced: Reduced, weights: Array, root: Certificate, gap: float, seconds: float) -> Certificate:
    if seconds <= 0:
        return root
    tree = prove_point(reduced, weights, gap, seconds)
    return tree if tree.bound >= root.bound else root


def load_highspy() -> ModuleType:
    try:
        import highspy
    except ImportError as error:
        raise InputError("highspy is missing; run: pip install highspy") from error
    return highspy


@final
class Master:
    """The HiGHS model: binary y (p,) and the value above all cuts; objective in units of the loss at zero."""

    def __init__(self, reduced: Reduced) -> None:
        self.highspy, self.reduced, self.p = load_highspy(), reduced, reduced.problem.n_groups
        self.most = reduced.problem.at_most
        self.unit = reduced.linearise(reduced.zero()).value - reduced.rest or 1.0
        h = self.model = self.highspy.Highs()
        for name, setting in (
            ("output_flag", False),
            ("threads", 1),
            ("primal_feasibility_tolerance", FEASIBILITY),
            ("dual_feasibility_tolerance", FEASIBILITY),
            ("mip_feasibility_tolerance", FEASIBILITY),
            ("mip_abs_gap", 0.0),
        ):
            h.setOptionValue(name, setting)
        none = np.empty(0, np.int32)
        for _ in range(self.p):
            h.addCol(0.0, 0.0, 1.0, 0, none, np.empty(0))
        h.addCol(1.0, 0.0, self.highspy.kHighsInf, 0, none, np.empty(0))
        if self.most is not None:
            index = np.arange(self.p, dtype=np.int32)
            h.addRow(-self.highspy.kHighsInf, float(self.most), self.p, index, np.ones(self.p))
        kinds = np.full(self.p, int(self.highspy.HighsVarType.kInteger), dtype=np.uint8)
        h.changeColsIntegrality(self.p, np.arange(self.p, dtype=np.int32), kinds)

    def cut(self, point: Point) -> None:
        """Add the cut of the point's dual; `rest`, which no cut changes, stays out of the model."""
        if point.multipliers is None:
            constant = self.reduced.linearise(point.weights).below(point.scale) - self.reduced.rest
            excess = group_excess(self.reduced, point)
        else:
            problem, U = self.reduced.problem, point.multipliers
            constant = -problem.measure.conjugate(U, problem.targets2d)[0] - self.reduced.rest
            z = problem.gather(np.abs(problem.X.T @ U) / problem.strength)
            conjugates = np.sum(problem.regulariser.cost_conjugate(z), axis=1)
            excess = problem.strength * (conjugates - problem.regulariser.price)
        values = np.append(excess / self.unit, 1.0)
        if np.all(np.isfinite(values)) and np.isfinite(constant):
            index = np.arange(self.p + 1, dtype=np.int32)
            self.model.addRow(constant / self.unit, self.highspy.kHighsInf, self.p + 1, index, values)

    def solve(self, seconds: float, gap: float, support: NDArray[np.bool_], value: float) -> Status:
        """Run from a known support and its value."""
        start = self.highspy.HighsSolution()
        start.col_value = [*support.astype(float).tolist(), (value - self.reduced.rest) / self.unit * (1 + 1e-9)]
        self.model.setSolution(start)
        return run_highs(self.highspy, self.model, seconds, gap)

    def support(self) -> NDArray[np.bool_]:
        """(p,) the indicators of the last run."""
        return np.array(self.model.getSolution().col_value[: self.p]) >= 0.5

    def lower_bound(self) -> float:
        """HiGHS's dual bound of the last run, in the problem's units."""
        info: Any = self.model.getInfo()
        return self.unit * float(info.mip_dual_bound) + self.reduced.rest


class _Incumbents:
    """Exact fits of the supports that were proposed, and the best of them (mutable state of one run)."""

    def __init__(self, reduced: Reduced, deadline: float) -> None:
        self.reduced, self.weights, self.deadline = reduced, reduced.zero(), deadline
        self.value = reduced.problem.objective(self.weights)

    @property
    def support(self) -> NDArray[np.bool_]:
        return self.reduced.problem.kept(self.weights)

    def fit(self, support: NDArray[np.bool_], deadline: float = np.inf) -> Point:
        point = fit_support(self.reduced, support, min(deadline, self.deadline))
        value = self.reduced.problem.objective(point.weights)
        if value < self.value:
            self.weights, self.value = point.weights, value
        return point
