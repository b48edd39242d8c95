"""Bound one part of the program: indicators go down, curvature goes up, a step of each at a time, then indicators alone.

Every look at a point (y, E) gives a bound by h's tangent at y, valid whatever the iterations did; the best is kept.
"""

import time
from dataclasses import dataclass
from typing import final

import numpy as np

from solvers.problem import Array
from solvers.split.indicators import step_logarithms
from solvers.split.kernel import LEAST, assess, lowest, step_box, step_curvature
from solvers.split.program import Condensed, Split

COOLING = 0.82  # of the barrier, each step
CLOSE = 0.3  # of the distance to the cutoff that the barrier may cost in the end
SETTLE = 8  # looks after the curvature's last step, at most, until y is good enough
LOST = 0.02  # of the distance to the cutoff that y may cost in the end


@dataclass(frozen=True, eq=False)
@final
class Look:
    """The best look at a part: y (f,), E (K, f, s, s), box multipliers (K, f, s), h's gradient and Hessian there, the
    bound, weights (o, f s)."""

    y: Array
    E: Array
    box: Array
    gradient: Array
    hessian: Array
    bound: float
    weights: Array
    barrier: float


@dataclass(frozen=True)
@final
class Effort:
    """How long to work at a part: most steps of the curvature; stop when one gains less than `least` of the distance to
    the cutoff; whether E moves at all."""

    steps: int
    least: float
    moves: bool


def look_closely(
    split: Split,
    part: Condensed,
    room: int,
    start: tuple[Array, Array, Array, float],
    cutoff: float,
    effort: Effort,
    deadline: float,
) -> Look | None:
    """The best bound found from start = (y, E, box, barrier); None where no factorisation succeeds."""
    y, E, box, barrier = np.maximum(start[0], LEAST), start[1].copy(), start[2].copy(), start[3]
    whitener, M = split.whitener[part.free], split.problem.regulariser.bound
    Theta = np.einsum("kja,jba,jca->kjbc", box, whitener, whitener)
    best: Look | None = None
    before, idle, moves = -np.inf, 0, 0
    clusters, d = len(E), len(part.A)
    for _ in range(effort.steps + SETTLE):
        ok, h, gradient, hessian, weights, pull = assess(part.A, part.Bt, split.starts, E, Theta, y, split.prices(box))
        if not ok:
            return best
        h += part.value
        bound = h - float(gradient @ y) + float(lowest(gradient, room))
        if best is None or bound > best.bound:
            best = Look(y, E.copy(), box.copy(), gradient, hessian, bound, weights, barrier)
        if bound >= cutoff or time.perf_counter() > deadline:
            return best
        distance = max(cutoff - best.bound, 1e-12 * abs(cutoff)) if np.isfinite(cutoff) else abs(h)
        moving = effort.moves and moves < effort.steps and h < cutoff  # else y alone will show what the part is worth
        if not moving and h - bound < LOST * distance:
            break
        moved = step_logarithms(y, gradient, hessian, room)
        if M is not None:
            step_box(E, Theta, box, pull, whitener, split.reach, M)
        if moving:
            moves += 1
            floor = CLOSE * distance / (clusters * d)
            barrier = max(floor, COOLING * barrier) if barrier > floor else floor
            if not step_curvature(part.A, E, pull, y, barrier, split.floor, split.margin):
                return best
            gain = best.bound - before
            before = best.bound
            idle = idle + 1 if gain < effort.least * distance and barrier <= 1.01 * floor else 0
            if idle >= 3:
                break
        y = moved
    return best
