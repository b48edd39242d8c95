"""Branch and bound on the split relaxation: best first, curvature inherited from the parent and improved where it pays.

A part of the program fixes groups off (their features dropped) or on (minimised out exactly); what is left is a smaller
problem of the same kind, and the parent's curvature blocks stay valid in it. Groups are fixed where the tangent of h
proves that their other choice passes the cutoff. The box enters through the fits: incumbents respect it, and a part with
every group fixed is bounded with it; in between multipliers of the box tighten the relaxation (solvers/split/leaf.py).
"""

import heapq
import itertools
import time
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
from numpy.typing import NDArray

from solvers.dual import ON
from solvers.fit import fit_support
from solvers.problem import Array
from solvers.reduced import Reduced, reduce
from solvers.result import Leaf
from solvers.split.leaf import SplitLeaf, SplitPoint
from solvers.split.node import Effort, Look, look_closely
from solvers.split.part import Part, States, branching_scores, point_part, restrict, tangent_gains
from solvers.split.program import Condensed, Split, condense
from solvers.split.supports import Supports
from solvers.split.workers import share_work

SHARE = 0.9  # of the gap asked for is used to cut off; the rest pays for rounding
GREEDY = 0.3  # most of the time limit for the first incumbent
HISTORY = 1e-4  # relative change of a bound worth a line of the history
ROOT_STEPS, NODE_STEPS = 200, 5  # most steps of the curvature


@dataclass(frozen=True, eq=False)
@final
class SplitTree:
    """Outcome: best weights (d, o) and their value, leaves that cover everything, the least of their bounds (rounding taken
    off), nodes, whether time ran out, and (seconds, incumbent, bound) over time."""

    weights: Array
    value: float
    leaves: tuple[SplitLeaf | Leaf, ...]
    bound: float
    nodes: int
    expired: bool
    history: tuple[tuple[float, float, float], ...]


def grow_split_tree(
    split: Split,
    E: Array,
    moves: bool,
    gap: float,
    time_limit: float,
    start: tuple[NDArray[np.bool_], ...] = (),
) -> SplitTree:
    """Search to the relative gap, from root blocks E (K, p, s, s); `moves`: improve the blocks in the tree.

    start: supports (p,) to begin from, besides the elimination's.
    """
    search = _Search(split, gap, time.perf_counter(), time_limit, moves)
    search.start(start)
    p = len(split.whitener)
    free = np.zeros(p, dtype=np.int8)
    # a first look without any search: the tangent at y = 1/2
    half, box = np.full(p, 0.5), np.zeros(E.shape[:3])
    root = Part(free, SplitPoint(free, half, E, box), -np.inf, half, E, box, np.inf)
    heap: list[tuple[float, int, Part]] = [(-np.inf, 0, root)]
    counter, nodes, expired = itertools.count(1), 0, False
    with share_work(len(split.A)) as (team, size):
        while heap and not expired:
            search.note(heap[0][0])
            batch = [heapq.heappop(heap)[2] for _ in range(min(size, len(heap)))]
            batch = [part for part in batch if not search.closed_by_bound(part)]
            looks = team(search.look, [(part, nodes + i == 0) for i, part in enumerate(batch)])
            for part, condensed, look in looks:
                nodes += 1
                for child in search.absorb(part, condensed, look, nodes == 1):
                    heapq.heappush(heap, (child.bound, next(counter), child))
            expired = time.perf_counter() > search.deadline
    for bound, _, part in heap:
        search.close(part.states, part.point, bound)
    return search.finish(nodes, expired)


@final
class _Search:
    """The incumbent and the parts closed so far (mutable state of one tree)."""

    def __init__(self, split: Split, gap: float, begin: float, time_limit: float, moves: bool) -> None:
        self.split, self.gap, self.begin, self.moves = split, gap, begin, moves
        self.deadline = begin + time_limit
        self.supports = Supports(split, begin + GREEDY * time_limit)
        self.weights = np.zeros((split.problem.X.shape[1], split.problem.targets2d.shape[1]))
        self.value = split.problem.objective(self.weights)
        self.leaves: list[SplitLeaf | Leaf] = []
        self.least = np.inf  # bound of the leaves
        self.history: list[tuple[float, float, float]] = []

    @cached_property
    def reduced(self) -> Reduced:
        """For fits that the box cuts: only those ask for it."""
        return reduce(self.split.problem)

    @property
    def cutoff(self) -> float:
        """A part with a bound at least this needs no more work."""
        return self.value - SHARE * self.gap * abs(self.value)

    def start(self, supports: tuple[NDArray[np.bool_], ...]) -> None:
        """The first incumbents: elimination from all groups and the supports given, then moves."""
        self.supports.eliminate()
        self.supports.improve(self.supports.best)
        trimmed = [self.supports.trim(support) for support in supports]
        for support in trimmed:
            self.supports.improve(support)
        self.supports.deadline = self.deadline
        for support in (*trimmed, self.supports.best):  # where the box binds, the best without it need not be the best
            self.offer(support)

    def offer(self, support: NDArray[np.bool_]) -> None:
        """Take the support's fit as incumbent where it is better; the box is respected."""
        if self.supports.look_up(support) >= self.value:
            return
        weights, bound = self.supports.weights(support), self.split.problem.regulariser.bound
        if bound is not None and np.max(np.abs(weights), initial=0.0) > bound:
            weights = fit_support(self.reduced, support, self.deadline).weights
        self.offer_weights(weights)

    def offer_weights(self, weights: Array) -> None:
        value = self.split.problem.objective(weights)
        if value < self.value:
            self.value, self.weights = value, weights

    def closed_by_bound(self, part: Part) -> bool:
        """Close a part whose parent's bound passes the cutoff by now."""
        if part.bound < self.cutoff:
            return False
        self.close(part.states, part.point, part.bound)
        return True

    def look(self, job: tuple[Part, bool]) -> tuple[Part, Condensed, Look | None]:
        """Bound a part; changes nothing here, so that several may run at once."""
        part, root = job
        split = self.split
        room = split.room - int(np.count_nonzero(part.states == 1))
        if room == 0:
            part = restrict(part, np.where(part.states == 0, -1, part.states).astype(np.int8))
        condensed = condense(split, part.states)
        if len(condensed.free) == 0:
            return part, condensed, None
        effort = Effort(ROOT_STEPS, 0.005, self.moves) if root else Effort(NODE_STEPS, 0.02, self.moves)
        start = (part.y, part.E, part.box, self.barrier(part))
        return part, condensed, look_closely(split, condensed, room, start, self.cutoff, effort, self.deadline)

    def absorb(self, part: Part, condensed: Condensed, look: Look | None, root: bool) -> list[Part]:
        """Close a part that was looked at, or fix what can be fixed and return its children."""
        if len(condensed.free) == 0:
            self.finish_part(condensed, part)
            return []
        if look is None:  # no factorisation: keep what the parent knows, and split
            return self.halve(part)
        self.round_off(condensed, look, root)
        point = SplitPoint(part.states, look.y, look.E, look.box)
        bound = max(look.bound, part.bound)
        if look.bound < part.bound:
            point = part.point
        if bound >= self.cutoff:
            self.close(part.states, point, bound)
            return []
        room = self.split.room - int(np.count_nonzero(part.states == 1))
        return self.split_part(part.states, condensed, look, room, bound, point)

    def barrier(self, part: Part) -> float:
        if np.isfinite(part.barrier):
            return part.barrier
        return 0.02 * abs(self.value) / len(part.E)

    def round_off(self, condensed: Condensed, look: Look, root: bool) -> None:
        """Supports near the relaxation's indicators."""
        support = np.zeros(len(self.split.whitener), dtype=bool)
        support[condensed.on] = True
        order = np.argsort(-look.y)
        count = min(int(np.count_nonzero(look.y >= 0.5)), self.split.room - len(condensed.on))
        support[condensed.free[order[:count]]] = True
        new = support.tobytes() not in self.supports.known
        value = self.supports.look_up(support)
        if root or (new and value < self.supports.value + 0.02 * abs(self.supports.value)):
            self.supports.improve(support)
        self.offer(self.supports.best)

    def finish_part(self, condensed: Condensed, part: Part) -> None:
        """Every group is fixed: the part's exact value, box included."""
        states = part.states
        support = states == ON
        self.offer(support)
        M = self.split.problem.regulariser.bound
        if M is not None and condensed.value < self.cutoff:
            boxed = fit_support(self.reduced, support, self.deadline)
            if boxed.dual > condensed.value:
                self.offer_weights(boxed.weights)
                self.least = min(self.least, boxed.dual)
                dual = self.reduced.dual_point(boxed.weights, boxed.scale)
                self.leaves.append(Leaf(_where(states, -1), _where(states, 1), dual))
                return
        K, s = len(self.split.starts) - 1, self.split.size
        self.close(
            states, SplitPoint(states, np.zeros(0), np.zeros((K, 0, s, s)), np.zeros((K, 0, s))), condensed.value
        )

    def split_part(
        self, states: States, condensed: Condensed, look: Look, room: int, bound: float, point: SplitPoint
    ) -> list[Part]:
        """Fix groups by the tangent, then two children on the group whose two choices gain most."""
        own = SplitPoint(states, look.y, look.E, look.box)
        gains = tangent_gains(look.gradient, room)  # (f, 2): bound of off, of on, above the look's own
        fixed = states.copy()
        for i, j in enumerate(condensed.free):
            for choice, other in ((0, 1), (1, -1)):
                if look.bound + gains[i, choice] >= self.cutoff and fixed[j] == 0:
                    closed = fixed.copy()
                    closed[j] = -1 if choice == 0 else 1
                    self.close(closed, own, look.bound + gains[i, choice])
                    fixed[j] = other
        rest = Part(states, own, bound, look.y, look.E, look.box, look.barrier)
        left = np.flatnonzero(fixed[condensed.free] == 0)
        if len(left) == 0:
            child = restrict(rest, fixed)
            return [point_part(child, own if look.bound >= bound else point, bound)]
        i = left[int(np.argmax(branching_scores(look, left)))]
        children = []
        for choice, state in ((0, -1), (1, 1)):
            child_states = fixed.copy()
            child_states[condensed.free[i]] = state
            if np.count_nonzero(child_states == 1) > self.split.room:  # no point has that many groups
                continue
            tangent = look.bound + gains[i, choice]
            child = restrict(rest, child_states)
            children.append(point_part(child, own if tangent >= bound else point, max(bound, tangent)))
        return children

    def halve(self, part: Part) -> list[Part]:
        """Two children on the first free group, with the parent's point."""
        j = int(np.flatnonzero(part.states == 0)[0])
        children = []
        for state in (-1, 1):
            states = part.states.copy()
            states[j] = state
            children.append(restrict(part, states))
        return children

    def close(self, states: States, point: SplitPoint, bound: float) -> None:
        self.leaves.append(SplitLeaf(_where(states, -1), _where(states, 1), point))
        self.least = min(self.least, bound)

    def note(self, bound: float) -> None:
        """A line of the history where incumbent or bound moved."""
        bound = min(bound, self.least)
        line = (time.perf_counter() - self.begin, self.value, bound)
        scale = HISTORY * abs(self.value)
        if not self.history or np.any(np.abs(np.array(line[1:]) - self.history[-1][1:]) > scale):
            self.history.append(line)

    def finish(self, nodes: int, expired: bool) -> SplitTree:
        bound = self.split.round_down(min(self.least, self.value))
        self.history.append((time.perf_counter() - self.begin, self.value, bound))
        lines = tuple(line for line in self.history if np.isfinite(line[2]))
        return SplitTree(self.weights, self.value, tuple(self.leaves), bound, nodes, expired, lines)


def _where(states: States, state: int) -> tuple[int, ...]:
    return tuple(int(j) for j in np.flatnonzero(states == state))
