"""Group branch and bound: best first, every node bounded by the projected relaxation's dual value.

A node fixes groups off or on and leaves the others free; its bound is the dual value where the node solver stopped, so
no node has to be solved exactly. Incumbents: greedy drops from all groups on, before anything else; the supports that
rounding y* gives, refitted exactly; single flips at the root. The same dual point also prices a fixing: with
v_j = sum_k phi*(z_jk) - price, forbidding group j costs at least strength * max(0, v_j) more and keeping it
strength * max(0, -v_j) more, so groups are fixed where that passes the cutoff.
Every part of the search space cut off this way leaves one leaf with its dual point: together they are the certificate.
"""

import heapq
import itertools
import time
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from perspective.errors import InputError
from solvers.dual import FREE, OFF, ON
from solvers.fit import fit_support
from solvers.greedy import SHARE as GREEDY_SHARE
from solvers.greedy import drop_groups
from solvers.problem import Array, LayerProblem
from solvers.projected import Point, indicators_of, minimise
from solvers.reduced import Reduced, reduce
from solvers.result import Certificate, Leaf, Result, Status, certify, relative_gap
from solvers.split.program import can_split
from solvers.split.search import solve_split

NODE_GAP = 1e-3  # a node that is going to be branched need not be solved better, relative to the cutoff's distance
SHARE = 0.9  # of the gap asked for is used to cut off; the rest pays for rounding in the certificate


@dataclass(frozen=True, eq=False)
@final
class Tree:
    """Outcome of the search: the best point, its proof, and why it stopped."""

    weights: Array
    certificate: Certificate
    status: Status
    nodes: int


@dataclass(frozen=True, eq=False)
@final
class Node:
    states: NDArray[np.int8]
    start: Array  # the parent's weights: warm start, and a dual point that is valid here
    scale: float


def solve_branch(problem: LayerProblem, gap: float, time_limit: float, strengthen: str | None = None) -> Result:
    """Exact solution to the relative gap. lower_bound is the certificate's own: nothing has to be believed.

    The squared loss with a cost a s^2 goes to the search that splits the curvature (solvers/split/search.py); any other
    problem to the one below, which knows no strengthening. InputError where one is asked for all the same.
    """
    begin = time.perf_counter()
    if can_split(problem):
        return solve_split(problem, gap, time_limit, strengthen or "blocks")
    if strengthen not in (None, "none"):
        raise InputError("strengthening needs the squared loss and a cost a*s**2; leave strengthen out")
    tree = grow_tree(reduce(problem), gap, time_limit)
    return Result(
        status=tree.status,
        objective=problem.objective(tree.weights),
        lower_bound=tree.certificate.bound,
        weights=problem.shaped(tree.weights),
        indicators=problem.kept(tree.weights),
        seconds=time.perf_counter() - begin,
        nodes=tree.nodes,
        backend="branch",
        certificate=tree.certificate,
    )


def grow_tree(reduced: Reduced, gap: float, time_limit: float, incumbent: Array | None = None) -> Tree:
    """Search until the certified relative gap is reached or time is up; `incumbent` (d, o) is a point already known.

    Status FEASIBLE where every node is closed and rounding alone keeps the certificate from the gap asked for.
    """
    begin = time.perf_counter()
    deadline = begin + time_limit
    problem, search = reduced.problem, _Search(reduced, gap, deadline)
    search.offer(reduced.zero())
    if incumbent is not None:
        search.offer(incumbent)
    else:
        greedy_end = begin + GREEDY_SHARE * time_limit
        drop_groups(lambda support: search.fit(support, greedy_end), problem.n_groups, greedy_end)
    root = Node(np.full(problem.n_groups, FREE, dtype=np.int8), search.weights, 1.0)
    heap, counter, nodes, expired = [(-np.inf, 0, root)], itertools.count(1), 0, False
    while heap and not expired:
        bound, _, node = heapq.heappop(heap)
        if bound >= search.cutoff:
            search.close(node.states, node.start, node.scale)
            continue
        nodes += 1
        point = search.solve(node, deadline)
        expired = time.perf_counter() > deadline
        if nodes == 1 and not expired:
            search.improve_by_flips(deadline)
        # the parent's dual point is valid here too; keep the better of the two
        if point.dual < bound:
            point = Point(node.start, np.inf, bound, node.scale, 0)
        if expired or point.dual >= search.cutoff or not np.any(node.states == FREE):
            search.close(node.states, point.weights, point.scale)
            continue
        states = search.fix(node.states, point)
        for child in search.split(states, point):
            heapq.heappush(heap, (point.dual, next(counter), child))
    for _, _, node in heap:
        search.close(node.states, node.start, node.scale)
    certificate = certify(problem, search.leaves())
    if relative_gap(search.value, certificate.bound) <= gap:
        status = Status.OPTIMAL
    else:
        status = Status.TIME_LIMIT if expired else Status.FEASIBLE
    return Tree(search.weights, certificate, status, nodes)


@final
class _Search:
    """The incumbent, and the parts of the search space closed so far (mutable state of one tree)."""

    def __init__(self, reduced: Reduced, gap: float, deadline: float) -> None:
        self.reduced, self.gap, self.deadline = reduced, gap, deadline
        self.weights, self.value = reduced.zero(), np.inf
        self.fitted: dict[bytes, float] = {}
        self.closed: list[tuple[NDArray[np.int8], Array, float]] = []

    @property
    def cutoff(self) -> float:
        """A part of the space with a bound at least this needs no more work."""
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
            self.fitted[key] = point.primal
            self.offer(point.weights)
        return self.fitted[key]

    def solve(self, node: Node, deadline: float) -> Point:
        """Bound the node: coarsely first, closer only where that may still cut it off; exactly where all is fixed."""
        if not np.any(node.states == FREE):
            point = fit_support(self.reduced, node.states == ON, deadline)
            self.offer(point.weights)
            return point
        start = np.where((node.states == OFF)[self.reduced.problem.labels][:, None], 0.0, node.start)
        point = minimise(self.reduced, node.states, start, tolerance=NODE_GAP, cutoff=self.cutoff, deadline=deadline)
        self.fit(self.support(node.states, point.weights))
        if point.dual < self.cutoff <= point.primal:
            fine = 0.05 * self.gap
            point = minimise(
                self.reduced, node.states, point.weights, tolerance=fine, cutoff=self.cutoff, deadline=deadline
            )
            self.fit(self.support(node.states, point.weights))
        return point

    def support(self, states: NDArray[np.int8], weights: Array) -> NDArray[np.bool_]:
        return np.where(states == FREE, indicators_of(self.reduced.problem, weights) >= 0.5, states == ON)

    def improve_by_flips(self, deadline: float) -> None:
        """Add or drop one group of the incumbent while that helps."""
        improved = True
        while improved and time.perf_counter() < deadline:
            before, support = self.value, self.reduced.problem.kept(self.weights)
            for j in range(len(support)):
                flipped = support.copy()
                flipped[j] = not flipped[j]
                self.fit(flipped)
                if time.perf_counter() > deadline:
                    break
            improved = self.value < before

    def fix(self, states: NDArray[np.int8], point: Point) -> NDArray[np.int8]:
        """Fix free groups whose other choice passes the cutoff at this dual point, closing that other part."""
        states = states.copy()
        excess = group_excess(self.reduced, point)
        for j in np.flatnonzero(states == FREE):
            if point.dual + abs(excess[j]) < self.cutoff:
                continue
            kept = ON if excess[j] > 0 else OFF
            states[j] = -kept
            self.close(states.copy(), point.weights, point.scale)
            states[j] = kept
        return states

    def split(self, states: NDArray[np.int8], point: Point) -> list[Node]:
        """Two children on the free group whose y* is nearest one half; one child where fixing left none free."""
        free = np.flatnonzero(states == FREE)
        if len(free) == 0:
            return [Node(states, point.weights, point.scale)]
        y = indicators_of(self.reduced.problem, point.weights)[free]
        group = free[int(np.argmin(np.abs(y - 0.5)))]
        children = []
        for state in (ON, OFF):
            child = states.copy()
            child[group] = state
            children.append(Node(child, point.weights, point.scale))
        return children

    def close(self, states: NDArray[np.int8], weights: Array, scale: float) -> None:
        self.closed.append((states, weights, scale))

    def leaves(self) -> list[Leaf]:
        return [
            Leaf(_where(states, OFF), _where(states, ON), self.reduced.dual_point(weights, scale))
            for states, weights, scale in self.closed
        ]


def group_excess(reduced: Reduced, point: Point) -> Array:
    """strength * (sum_k phi*(z_jk) - price) of each group (p,) at the point's dual."""
    problem = reduced.problem
    z = (2 * point.scale / problem.strength) * np.abs(reduced.gradient_half(point.weights)[1])
    conjugates = problem.regulariser.cost_conjugate(problem.gather(z))
    return problem.strength * (np.sum(conjugates, axis=1) - problem.regulariser.price)


def _where(states: NDArray[np.int8], state: int) -> tuple[int, ...]:
    return tuple(int(j) for j in np.flatnonzero(states == state))
