"""The squared loss behind a ReLU, exactly, in HiGHS: a MILP re-solved with more tangents until its bound meets a point.

    min  sum (max(0, X W) - Y)^2 + strength * sum_j [ sum_k phi(w_jk) + price y_j ]

One binary a group and one a prediction with a positive target (the others are convex in W). The big-M of the activations
comes from `relu_ranges`: from the box or from what the incumbent leaves to spend, so a cost that grows needs no box. Each
MILP's binaries are fitted (`relu_incumbent`) and give tangents where they are needed, so bound and point meet.
HiGHS takes no quadratic with integers, hence the tangents.
"""

import time
from typing import final

import numpy as np

from perspective.errors import InputError
from solvers.dual import OFF, ON
from solvers.problem import LayerProblem
from solvers.relu.enumerate import enumerate_relu
from solvers.relu.incumbent import Incumbent
from solvers.relu.master import ReluMaster
from solvers.relu.tree import grow_relu_tree
from solvers.result import Result, Status, no_result, relative_gap

__all__ = ["enumerate_relu", "solve_relu"]

SEARCH_SHARE = 0.15  # of the time limit: the incumbent before any bound
MASTER_SHARE = 0.8  # HiGHS stops there; the rest is for the proof
GAP_SHARE = 0.25  # of the gap asked for is left to each single MILP
ROOT_ROUNDS = 40
ROOT_GAIN = 1e-4  # an LP round that raises the relaxation by less, relative to the incumbent, is the last
CONTRADICTION = 1e-6  # relative: HiGHS's tolerances explain less
MOST_BINARIES = 2000


def solve_relu(problem: LayerProblem, gap: float, time_limit: float) -> Result:
    """Exact solution to the relative gap.

    lower_bound is the larger of two: HiGHS's dual bound of the outer approximation, which rests on our tangents and
    ranges and on HiGHS's arithmetic (tolerances 1e-9 in data units); and the certificate's, which rests on nothing but
    numpy (`relu_certificate`): an own branch and bound grown from the answer in the time that is left, at least its root.
    HiGHS's bound is dropped where a point contradicts it.
    Status FAILED, without a point, where HiGHS fails. InputError where the loss is another one, where the layer is too
    large, or where neither box nor cost bounds the weights.
    """
    if problem.loss != "relu":
        raise InputError(
            f"this solver is for loss='relu', not {problem.loss!r}; use solve_exact, which picks by the loss"
        )
    binaries = int(np.count_nonzero(problem.targets2d > 0)) + problem.n_groups
    if binaries > MOST_BINARIES:
        raise InputError(f"a ReLU program of {binaries} binaries is out of reach; take fewer samples or outputs")
    begin = time.perf_counter()
    incumbent = Incumbent(problem)
    incumbent.search(begin + SEARCH_SHARE * time_limit)
    run = _Run(incumbent, gap, begin, begin + MASTER_SHARE * time_limit)
    status = run.loop()
    if status in (Status.FAILED, Status.INFEASIBLE):
        return no_result(status, time.perf_counter() - begin, "highs")
    tree = grow_relu_tree(problem, incumbent, gap, begin + time_limit)
    contradicted = run.lower_bound > incumbent.value + CONTRADICTION * abs(
        incumbent.value
    )  # by the tree's better point
    lower_bound = tree.certificate.bound if contradicted else max(run.lower_bound, tree.certificate.bound)
    if relative_gap(incumbent.value, lower_bound) <= gap:
        status = Status.OPTIMAL
    elif status is Status.OPTIMAL:
        status = Status.FEASIBLE
    return Result(
        status=status,
        objective=incumbent.value,
        lower_bound=min(lower_bound, incumbent.value),
        weights=problem.shaped(incumbent.weights),
        indicators=problem.kept(incumbent.weights),
        seconds=time.perf_counter() - begin,
        nodes=run.rounds,
        backend="highs",
        certificate=tree.certificate,
        history=tuple(run.history),
        notes=incumbent.notes,
    )


@final
class _Run:
    """The loop of MILPs (mutable state of one run)."""

    def __init__(self, incumbent: Incumbent, gap: float, begin: float, deadline: float) -> None:
        self.incumbent, self.gap, self.begin, self.deadline = incumbent, gap, begin, deadline
        self.master = ReluMaster(incumbent.problem, incumbent.ranges)
        self.lower_bound, self.rounds = 0.0, 0  # every term is >= 0
        self.history: list[tuple[float, float, float]] = []

    def loop(self) -> Status:
        """OPTIMAL, TIME_LIMIT, FEASIBLE (HiGHS's accuracy is used up), or what HiGHS says went wrong."""
        master, incumbent = self.master, self.incumbent
        master.touch(incumbent.weights)
        master.touch(np.zeros_like(incumbent.weights))
        self._note()
        if (status := self._root()) is not Status.OPTIMAL:
            return status
        master.relax(False)
        while self._open():
            if time.perf_counter() > self.deadline:
                return Status.TIME_LIMIT
            status = master.solve(self.deadline - time.perf_counter(), GAP_SHARE * self.gap, incumbent.weights)
            self.rounds += 1
            if status in (Status.FAILED, Status.INFEASIBLE):
                return status
            self.lower_bound = max(self.lower_bound, master.lower_bound())
            if status is Status.TIME_LIMIT:
                self._note()
                return status
            added = self._learn()
            self._note()
            if added == 0 and self._open():
                return Status.FEASIBLE
        return Status.OPTIMAL

    def _open(self) -> bool:
        return relative_gap(self.incumbent.value, self.lower_bound) > self.gap

    def _note(self) -> None:
        now = time.perf_counter() - self.begin
        self.history.append((now, self.incumbent.value, min(self.lower_bound, self.incumbent.value)))

    def _root(self) -> Status:
        """Tangents for the LP relaxation, round by round: an LP costs far less than a MILP."""
        master, before = self.master, -np.inf
        master.relax(True)
        for _ in range(ROOT_ROUNDS):
            status = master.solve(self.deadline - time.perf_counter(), self.gap)
            if status is not Status.OPTIMAL:
                return status
            value = master.value()
            self.lower_bound = max(self.lower_bound, value)
            if master.cut(master.proposal()) == 0 or value - before <= ROOT_GAIN * self.incumbent.value:
                break
            before = value
        support = master.proposal().y > 0.5
        self.incumbent.improve(support, master.proposal().weights)
        return Status.OPTIMAL

    def _learn(self) -> int:
        """A descent from the MILP's point, and tangents there, at the optimum of its binaries, and at the new point."""
        master, incumbent, problem = self.master, self.incumbent, self.incumbent.problem
        found = master.proposal()
        support = found.y > 0.5
        incumbent.improve(support, np.where(support[problem.labels][:, None], found.weights, 0.0))
        states = np.where(support, ON, OFF).astype(np.int8)
        signs = np.where(found.d > 0.5, ON, OFF).astype(np.int8)
        start = incumbent.solver.start(found.weights)
        fitted = incumbent.solver.solve(states, signs, (master.low, master.high), start, deadline=self.deadline)
        incumbent.improve(support, fitted.weights)
        added = master.cut(found)
        master.touch(fitted.weights)
        master.touch(incumbent.weights)
        return added
