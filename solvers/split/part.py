"""Parts of the program still to be bounded, and where to split one: gains by h's tangent, and by its quadratic model."""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from solvers.problem import Array
from solvers.split.kernel import LEAST
from solvers.split.leaf import SplitPoint
from solvers.split.node import Look

States = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
@final
class Part:
    """Work to do: states (p,), the parent's point with a bound valid here, and where to start."""

    states: States
    point: SplitPoint
    bound: float
    y: Array
    E: Array
    box: Array
    barrier: float


def restrict(part: Part, states: States) -> Part:
    """The part with more groups fixed: start values of those that stay free."""
    keep = states[part.states == 0] == 0
    E, box = np.ascontiguousarray(part.E[:, keep]), np.ascontiguousarray(part.box[:, keep])
    return Part(states, part.point, part.bound, part.y[keep], E, box, part.barrier)


def point_part(part: Part, point: SplitPoint, bound: float) -> Part:
    """The part with another point that bounds it."""
    return Part(part.states, point, bound, part.y, part.E, part.box, part.barrier)


def tangent_gains(gradient: Array, room: int) -> Array:
    """(f, 2) increase of the tangent's minimum over 0 <= y <= 1, sum y <= room when a group is fixed off, or on."""
    if room >= len(gradient):
        return np.stack([np.maximum(-gradient, 0.0), np.maximum(gradient, 0.0)], axis=1)
    order = np.argsort(gradient)
    lowest = np.minimum(gradient[order], 0.0)
    chosen = np.zeros(len(gradient), dtype=bool)
    chosen[order[:room]] = True
    following, last = lowest[room], lowest[room - 1]
    off = np.where(chosen, following - np.minimum(gradient, 0.0), 0.0)
    on = np.where(chosen, np.maximum(gradient, 0.0), gradient - last)
    return np.stack([off, on], axis=1)


def branching_scores(look: Look, left: NDArray[np.intp]) -> Array:
    """Estimated increase of the bound when a group is turned off, from h's quadratic model at the look.

    The increase when it is turned on is left out: it is largest for groups that nobody wants, and their other half is as hard
    as before. Groups that the relaxation nearly keeps split the work: without one the bound rises, with it a price is paid.
    """
    H = look.hessian[np.ix_(left, left)]
    y, slope = look.y[left], np.abs(look.gradient[left])
    H = H + np.eye(len(left)) * (1e-8 * np.trace(H) / len(left) + 1e-300)
    stiff = 1.0 / np.maximum(np.diagonal(np.linalg.inv(H)), 1e-300)
    inside = (y > 2 * LEAST) & (y < 1 - 1e-9)
    return np.where(inside, 0.5 * stiff * y**2, 0.0) - 1e-9 * slope
