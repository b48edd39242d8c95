"""The projected relaxation with at most k groups: one more price for all, found by bracketing.

    max over extra >= 0 of  min over W of  L(X W) + strength * sum_j r_{price + extra}(w_j)  - strength * extra * k

At an extra price the inner problem has no count (`projected.py`); its indicators sum to more than k where the extra price
is too low. The two ends of the bracket, mixed so that the sum is k, are the primal point (the perspective is convex), and
each end's dual point, its k - #on largest terms counted, bounds from below.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from solvers.count import raise_price
from solvers.dual import FREE, OFF, ON, counted_sum, group_terms
from solvers.multipliers import minimise_kinked
from solvers.problem import Array, LayerProblem
from solvers.projected import Point, dual_of, indicators_of, minimise
from solvers.reduced import Reduced

STEPS = 60
FINER = 0.1  # the inner gap asked for, relative to the outer one
FIRST = 1e-3  # and at most this
DEAREST = 1e30  # times the price: beyond it only rounding keeps indicators up


def minimise_counted(
    reduced: Reduced,
    states: NDArray[np.int8],
    start: Array,
    *,
    tolerance: float,
    cutoff: float = np.inf,
    deadline: float = np.inf,
) -> Point:
    """`minimise` for a problem with `at_most`. Primal and dual value +inf where more groups are on than that."""
    problem = reduced.problem
    assert problem.at_most is not None
    room = problem.at_most - int(np.count_nonzero(states == ON))
    uncounted = replace(reduced, problem=replace(problem, at_most=None))
    if room < 0:
        return Point(reduced.zero(), np.inf, np.inf, 1.0, 0)
    if room == 0:
        states = np.where(states == FREE, OFF, states).astype(np.int8)
    if np.count_nonzero(states == FREE) <= room:
        return minimise(uncounted, states, start, tolerance=tolerance, cutoff=cutoff, deadline=deadline)
    dear = raise_price(problem.regulariser)
    search = _Bracket(reduced, states, room)

    def visit(extra: float, weights: Array, finer: float) -> float:
        """The sum of the free groups' indicators less the room, at this extra price."""
        priced = uncounted if extra == 0 else replace(uncounted, problem=_priced(uncounted.problem, dear, extra))
        if priced.loss.smooth or not np.isfinite(search.dual):
            point = minimise(priced, states, weights, tolerance=finer, deadline=deadline)
        else:
            centre = search.multipliers
            point = minimise_kinked(priced, states, weights, tolerance=finer, deadline=deadline, centre=centre)
        return search.take(extra, point, priced)

    finest = FINER * tolerance
    if visit(0.0, start, max(FIRST, finest)) <= 0 and (
        search.done(tolerance, cutoff) or visit(0.0, search.nearest(0.0), finest) <= 0
    ):
        return search.best()  # the count does not bind
    extra = problem.regulariser.price
    for _ in range(STEPS):
        if (
            search.done(tolerance, cutoff)
            or time.perf_counter() > deadline
            or extra > DEAREST * problem.regulariser.price
        ):
            break
        visit(extra, search.nearest(extra), max(finest, min(FIRST, FINER * search.gap)))
        extra = search.following(extra)
    return search.best()


def _priced(problem: LayerProblem, dear: Callable[[float], object], extra: float) -> LayerProblem:
    return replace(problem, regulariser=dear(extra))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
@final
class _End:
    extra: float
    over: float
    weights: Array
    y: Array


@final
class _Bracket:
    """The two ends, and the best primal and dual value seen (mutable state of one search)."""

    def __init__(self, reduced: Reduced, states: NDArray[np.int8], room: int) -> None:
        self.reduced, self.states, self.room = reduced, states, room
        self.low: _End | None = None
        self.high: _End | None = None
        self.weights, self.y, self.primal = reduced.zero(), np.zeros(len(states)), np.inf
        self.multipliers, self.dual, self.iterations = np.zeros_like(reduced.problem.targets2d), -np.inf, 0
        self.same_side = 0

    def take(self, extra: float, point: Point, priced: Reduced) -> float:
        y = np.where(
            self.states == OFF, 0.0, np.where(self.states == ON, 1.0, indicators_of(priced.problem, point.weights))
        )
        over = float(np.sum(y[self.states == FREE])) - self.room
        end, self.iterations = _End(extra, over, point.weights, y), self.iterations + point.iterations
        if over > 0:
            self.same_side = self.same_side + 1 if self.same_side > 0 else 1
            self.low = end
        else:
            self.same_side = self.same_side - 1 if self.same_side < 0 else -1
            self.high = end
        U = dual_of(priced, point)
        found = self._bound(U)
        if found > self.dual:
            self.multipliers, self.dual = U, found
        if self.high is not None:
            self._offer(self.high.weights, self.high.y)
            if self.low is not None:  # the mixture whose indicators sum to the count
                share = -self.high.over / (self.low.over - self.high.over)
                mixed = share * self.low.weights + (1 - share) * self.high.weights
                self._offer(mixed, share * self.low.y + (1 - share) * self.high.y)
        return over

    def _bound(self, U: Array) -> float:
        problem = self.reduced.problem
        z = problem.gather(np.abs(problem.X.T @ U) / problem.strength)
        terms = group_terms(problem.regulariser, z, self.states, "perspective")[0]
        value = -problem.measure.conjugate(U, problem.targets2d)[0]
        return value - problem.strength * counted_sum(problem, z, terms, self.states)

    def _offer(self, weights: Array, y: Array) -> None:
        problem = self.reduced.problem
        floor = (
            np.zeros(len(y))
            if problem.regulariser.bound is None
            else (np.max(np.abs(problem.gather(weights)), axis=1) / problem.regulariser.bound)
        )
        y = np.clip(np.maximum(y, floor), 0.0, 1.0)
        value = problem.perspective(weights, y)
        if value < self.primal:
            self.weights, self.y, self.primal = weights, y, value

    @property
    def gap(self) -> float:
        """Relative gap of the best primal and the best dual value."""
        return (self.primal - self.dual) / max(1e-12, abs(self.primal)) if np.isfinite(self.primal) else np.inf

    def done(self, tolerance: float, cutoff: float) -> bool:
        return self.dual >= cutoff or self.gap <= tolerance

    def nearest(self, extra: float) -> Array:
        ends = [end for end in (self.low, self.high) if end is not None]
        return min(ends, key=lambda end: abs(end.extra - extra)).weights

    def following(self, extra: float) -> float:
        """Fourfold while no end is high enough, then the false position, halved towards a side that stays."""
        if self.high is None or self.low is None:
            return 4 * extra
        low, high = self.low, self.high
        if abs(self.same_side) > 1:
            return 0.5 * (low.extra + high.extra)
        slope = (low.over - high.over) or 1.0
        guess = low.extra + (high.extra - low.extra) * low.over / slope
        margin = 0.02 * (high.extra - low.extra)
        return float(np.clip(guess, low.extra + margin, high.extra - margin))

    def best(self) -> Point:
        return Point(self.weights, self.primal, self.dual, 1.0, self.iterations, self.multipliers, self.y)
