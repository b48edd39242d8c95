"""Newton on the pattern a point shows: what spread curvature inside a group makes slow becomes a few linear solves.

The pattern: which weights are nonzero, which sit at the box M y of their group, which indicators lie below one. On it

    ||R W - T||^2 + strength * sum_j [ a ||w_j||^2 / y_j + b ||w_j||_1 + price y_j ]

is smooth and jointly convex in the free weights and indicators, a weight at the box moving as M y. Steps are taken only
where the relaxation's own value falls; the proximal steps decide the pattern.
"""

import numpy as np
from numpy.typing import NDArray

from solvers.dual import OFF, ON
from solvers.problem import Array
from solvers.reduced import Reduced

STEPS = 8
HALVINGS = 6
MOST = 400  # variables; beyond that a dense solve costs more than it saves
AT_BOX = 1e-9  # relative
SMALLEST = 1e-8  # groups with an indicator below stay as they are: their curvature is its inverse cube


def newton_direction(
    reduced: Reduced, states: NDArray[np.int8], weights: Array, y: Array
) -> tuple[Array, float] | None:
    """Newton's change of the weights (d, o) and the step, at most one, where the next weight meets its box; None where
    there are no variables or too many. `y` (p,) are the indicators of the weights."""
    problem, strength, bound = reduced.problem, reduced.problem.strength, reduced.regulariser.bound
    assert reduced.regulariser.quadratic is not None
    a, b = reduced.regulariser.quadratic
    outputs = weights.shape[1]
    group = np.repeat(problem.labels, outputs)
    entries = np.flatnonzero((weights.ravel() != 0) & (states[group] != OFF) & (y[group] > SMALLEST))
    movable = np.unique(group[entries])
    movable = movable[(states[movable] != ON) & (y[movable] < 1)]
    if len(entries) == 0 or len(entries) + len(movable) > MOST:
        return None
    w, owner = weights.ravel()[entries], group[entries]
    own_y = y[owner]
    limit = np.inf if bound is None else bound
    pinned = np.abs(w) >= limit * own_y * (1 - AT_BOX)
    rows, column = entries // outputs, entries % outputs
    half = reduced.gradient_half(weights)[1].ravel()[entries]
    gram = reduced.half_hessian(weights, rows, column)
    n, m = len(entries), len(movable)
    member = (owner[:, None] == movable[None, :]).astype(np.float64)
    squares = member.T @ w**2
    gradient = np.append(
        2 * half + strength * (2 * a * w / own_y + b * np.sign(w)),
        strength * (problem.regulariser.price - a * squares / y[movable] ** 2),
    )
    hessian = np.zeros((n + m, n + m))
    hessian[:n, :n] = 2 * gram + np.diag(2 * a * strength / own_y)
    hessian[:n, n:] = -2 * a * strength * (w / own_y**2)[:, None] * member
    hessian[n:, :n] = hessian[:n, n:].T
    hessian[n:, n:] = np.diag(2 * a * strength * squares / y[movable] ** 3)
    # a pinned weight is its group's indicator times +-M, or stays where that indicator does
    basis = np.eye(n + m)
    basis[:n, n:] = np.where(pinned, limit * np.sign(w), 0.0)[:, None] * member if bound is not None else 0.0
    basis = np.delete(basis, np.flatnonzero(pinned), axis=1)
    reduced_hessian = basis.T @ hessian @ basis
    # variables of very different scale: equilibrate before the least-squares solve
    diagonal = np.diag(reduced_hessian)
    size = np.where(diagonal > 0, 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)), 0.0)
    scaled = reduced_hessian * size[:, None] * size[None, :]
    if not np.all(np.isfinite(scaled)):
        return None
    step = basis @ (size * np.linalg.lstsq(scaled, -size * (basis.T @ gradient), rcond=1e-14)[0])
    change = np.zeros(weights.size)
    change[entries] = step[:n]
    return change.reshape(weights.shape), _to_box(
        w, step[:n], own_y, member @ step[n:], np.where(pinned, np.inf, limit)
    )


def _to_box(w: Array, dw: Array, y: Array, dy: Array, limit: Array) -> float:
    """The largest t <= 1 with |w + t dw| <= limit (y + t dy) for every weight."""
    most = 1.0
    inside = np.isfinite(limit)
    for sign in (1.0, -1.0):
        room = limit[inside] * y[inside] - sign * w[inside]
        speed = sign * dw[inside] - limit[inside] * dy[inside]
        closing = speed > 0
        if np.any(closing):
            most = min(most, float(np.min(room[closing] / speed[closing])))
    return max(most, 0.0)
