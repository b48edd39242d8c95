"""Group branch and bound for any convex loss and any count of groups: each node carries its dual point.

Best first. A node fixes groups off or on; its bound is the dual value where the node's relaxation stopped. Incumbents:
the best groups of a greedy sweep, then the supports that rounding gives, refitted exactly. The dual point also prices a
fixing: where leaving a group off (or on) alone lifts the dual value past the cutoff, the other choice is fixed. Every part
cut off leaves one leaf with its dual point; together they are the certificate, and the bound is the certificate's.
`branch.py` holds the search for the squared loss, whose dual points follow from the weights.
"""

import heapq
import itertools
import time
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from solvers.dual import FREE, OFF, ON
from solvers.fit import fit_support
from solvers.problem import Array, LayerProblem
from solvers.projected import dual_of, indicators_of, minimise
from solvers.reduced import Reduced, reduce
from solvers.result import Certificate, Leaf, Result, Status, certify, relative_gap
from solvers.sweep import sweep_supports

NODE_GAP = 1e-3  # a node that is going to be branched need not be solved better
SHARE = 0.9  # of the gap asked for is used to cut off; the rest pays for rounding in the certificate
GREEDY_SHARE = 0.25  # of the time limit


@dataclass(frozen=True, eq=False)
@final
class Grown:
    """Outcome of the search: the best point, its proof, why it stopped, nodes, and (seconds, value, bound) as it went."""

    weights: Array
    certificate: Certificate
    status: Status
    nodes: int
    history: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, eq=False)
@final
class Part:
    """A part of the search space: what is fixed, where to start, and the parent's dual point, which is valid here."""

    states: NDArray[np.int8]
    start: Array
    dual: Array


def solve_tree(problem: LayerProblem, gap: float, time_limit: float) -> Result:
    """Exact solution to the relative gap; lower_bound is the certificate's own: nothing has to be believed."""
    begin = time.perf_counter()
    grown = grow(reduce(problem), gap, time_limit)
    return Result(
        status=grown.status,
        objective=problem.objective(grown.weights),
        lower_bound=grown.certificate.bound,
        weights=problem.shaped(grown.weights),
        indicators=problem.kept(grown.weights),
        seconds=time.perf_counter() - begin,
        nodes=grown.nodes,
        backend="branch",
        certificate=grown.certificate,
        history=grown.history,
    )


def grow(reduced: Reduced, gap: float, time_limit: float, incumbent: Array | None = None) -> Grown:
    """Search until the certified relative gap is reached or time is up; `incumbent` (d, o) is a point already known.

    Status FEASIBLE where every part is closed and rounding alone keeps the certificate from the gap asked for.
    """
    begin = time.perf_counter()
    deadline, problem = begin + time_limit, reduced.problem
    search = _Search(reduced, gap, deadline)
    search.offer(reduced.zero())
    if incumbent is None:
        greedy_end = begin + GREEDY_SHARE * time_limit
        sweep_supports(lambda support: search.fit(support, greedy_end), problem.n_groups, problem.at_most, greedy_end)
    else:
        search.offer(incumbent)
    root = Part(np.full(problem.n_groups, FREE, dtype=np.int8), search.weights, np.zeros_like(problem.targets2d))
    heap, counter, nodes, expired = [(-np.inf, 0, root)], itertools.count(1), 0, False
    history = []
    while heap and not expired:
        bound, _, part = heapq.heappop(heap)
        if bound >= search.cutoff:
            search.closed.append((part.states, part.dual))
            continue
        nodes += 1
        value, weights, dual, y = search.solve(part)
        expired = time.perf_counter() > deadline
        if value < bound:
            value, dual = bound, part.dual
        history.append(
            (time.perf_counter() - begin, search.value, min([value, search.value, *(entry[0] for entry in heap[:1])]))
        )
        if expired or value >= search.cutoff or not np.any(part.states == FREE):
            search.closed.append((part.states, dual))
            continue
        states = search.fix(part.states, value, dual)
        for child in split(states, y):
            heapq.heappush(heap, (value, next(counter), Part(child, weights, dual)))
    for _, _, part in heap:
        search.closed.append((part.states, part.dual))
    certificate = certify(problem, [Leaf(_where(states, OFF), _where(states, ON), U) for states, U in search.closed])
    reached = relative_gap(search.value, certificate.bound) <= gap
    status = Status.OPTIMAL if reached else Status.TIME_LIMIT if expired else Status.FEASIBLE
    return Grown(search.weights, certificate, status, nodes, tuple(history))


@final
class _Search:
    """The incumbent, and the parts closed so far (mutable state of one search)."""

    def __init__(self, reduced: Reduced, gap: float, deadline: float) -> None:
        self.reduced, self.gap, self.deadline = reduced, gap, deadline
        self.weights, self.value = reduced.zero(), np.inf
        self.fitted: dict[bytes, float] = {}
        self.closed: list[tuple[NDArray[np.int8], Array]] = []

    @property
    def cutoff(self) -> float:
        return self.value - SHARE * self.gap * abs(self.value)

    def offer(self, weights: Array) -> None:
        value = self.reduced.problem.objective(weights)
        if value < self.value:
            self.weights, self.value = weights, value

    def fit(self, support: NDArray[np.bool_], deadline: float = np.inf) -> float:
        """Value of a support's exact fit, offered as incumbent; each support is fitted once."""
        key = support.tobytes()
        if key not in self.fitted:
            point = fit_support(self.reduced, support, min(deadline, self.deadline))
            self.fitted[key] = self.reduced.problem.objective(point.weights)
            self.offer(point.weights)
        return self.fitted[key]

    def solve(self, part: Part) -> tuple[float, Array, Array, Array]:
        """(bound, weights, dual point, indicators) of a part: coarsely, then closer where that may still cut it off."""
        reduced, states = self.reduced, part.states
        if not np.any(states == FREE):
            point = fit_support(reduced, states == ON, self.deadline)
            self.offer(point.weights)
            return point.dual, point.weights, dual_of(reduced, point), (states == ON).astype(np.float64)
        start = np.where((states == OFF)[reduced.problem.labels][:, None], 0.0, part.start)
        for tolerance in (NODE_GAP, 0.05 * self.gap):
            point = minimise(reduced, states, start, tolerance=tolerance, cutoff=self.cutoff, deadline=self.deadline)
            y = indicators_of(reduced.problem, point.weights) if point.indicators is None else point.indicators
            y = np.where(states == FREE, y, states == ON)
            self.fit(self.rounded(states, y))
            if point.dual >= self.cutoff or point.primal < self.cutoff:
                break
            start = point.weights
        return point.dual, point.weights, dual_of(reduced, point), y

    def rounded(self, states: NDArray[np.int8], y: Array) -> NDArray[np.bool_]:
        """The groups with the largest indicators, as many as the count allows, none below one half."""
        support = y >= 0.5
        most = self.reduced.problem.at_most
        if most is not None and np.count_nonzero(support) > most:
            order = np.argsort(-np.where(states == ON, 2.0, y), kind="stable")
            support = np.zeros(len(y), dtype=bool)
            support[order[:most]] = True
        return support

    def fix(self, states: NDArray[np.int8], value: float, dual: Array) -> NDArray[np.int8]:
        """Fix free groups whose other choice passes the cutoff at this dual point, closing that other part."""
        off, on = lifts(self.reduced.problem, states, dual)
        states = states.copy()
        for j in np.flatnonzero(states == FREE):
            if value + max(off[j], on[j]) < self.cutoff:
                continue
            kept = ON if off[j] >= on[j] else OFF
            states[j] = -kept
            self.closed.append((states.copy(), dual))
            states[j] = kept
        return states


def lifts(problem: LayerProblem, states: NDArray[np.int8], dual: Array) -> tuple[Array, Array]:
    """How much fixing each free group off, and on, lifts the dual value at U; both (p,), +inf where the count forbids it.

    v_j = strength (sum_k phi*(z_jk) - price). No count: max(0, v_j) off, max(0, -v_j) on. With a count the free groups
    contribute their m largest max(0, v), so a group among those is replaced by the next one when it goes.
    """
    z = problem.gather(np.abs(problem.X.T @ dual) / problem.strength)
    excess = problem.strength * (np.sum(problem.regulariser.cost_conjugate(z), axis=1) - problem.regulariser.price)
    gain, free = np.maximum(excess, 0.0), states == FREE
    if problem.at_most is None:
        return gain, np.maximum(-excess, 0.0)
    room = problem.at_most - int(np.count_nonzero(states == ON))
    order = np.sort(gain[free])[::-1]
    if room <= 0:
        return np.zeros(len(gain)), np.full(len(gain), np.inf)
    last = order[room - 1] if room <= len(order) else 0.0  # the least that still counts
    following = order[room] if room < len(order) else 0.0
    chosen = gain >= last
    return np.where(chosen, np.maximum(gain - following, 0.0), 0.0), np.where(chosen, gain, last) - excess


def split(states: NDArray[np.int8], y: Array) -> list[NDArray[np.int8]]:
    """Two children on the free group whose indicator is nearest one half; one child where fixing left none free."""
    free = np.flatnonzero(states == FREE)
    if len(free) == 0:
        return [states]
    group = free[int(np.argmin(np.abs(y[free] - 0.5)))]
    children = []
    for state in (ON, OFF):
        child = states.copy()
        child[group] = state
        children.append(child)
    return children


def _where(states: NDArray[np.int8], state: int) -> tuple[int, ...]:
    return tuple(int(j) for j in np.flatnonzero(states == state))
