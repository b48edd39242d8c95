"""Compiled branch and bound for one output without a box: deep first, each part bounded by a few glances.

The same steps as the general search (solvers/split/tree.py): Newton steps of the indicators, at first with steps of the
curvature, h's tangent as bound, groups fixed by it, two children on the group whose smaller gain is largest. What is closed
leaves its states and the number of the point that bounds it.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from solvers.problem import Array
from solvers.split.glance import condense_one, glance
from solvers.split.kernel import LEAST, lowest, step_curvature, step_indicators
from solvers.split.lapack import invert
from solvers.split.moves import improve_support, value_support

GLANCES, MOVES = 8, 2  # most steps at one part: of the indicators alone, and of the curvature too (not at the root)
CLOSE = 0.1  # of the distance to the cutoff that the barrier of the curvature may cost
LOST = 0.01  # of the distance to the cutoff: the indicators are good enough
NEAR = 0.02  # of the best value: a rounded support this near is worth a search by moves


@njit(cache=True, nogil=True)
def bound_part(
    A: Array,
    b: Array,
    E: Array,
    y: Array,
    price: float,
    value: float,
    cutoff: float,
    moves: int,
    floor: float,
    margin: float,
) -> tuple[float, Array, Array, Array, Array]:
    """The best bound on the way from (y, E): it, y, E, gradient and Hessian there; value = what is fixed already.

    -inf where no factorisation succeeds.
    """
    f, s = E.shape[0], E.shape[1]
    best, best_y, best_E, best_gradient, best_hessian = -np.inf, y, E, y, np.zeros((f, f))
    barrier = 0.0
    for turn in range(GLANCES + moves):
        ok, h, gradient, hessian, U = glance(A, b, E, y, price)
        if not ok:
            break
        bound = value + h - np.sum(gradient * y) + lowest(gradient, f)
        if bound > best:
            best, best_y, best_E, best_gradient, best_hessian = bound, y, E, gradient, hessian
        distance = cutoff - best
        if distance <= 0.0 or (turn > moves and value + h - bound < LOST * distance):
            break
        if 0 < turn <= moves:
            trial, pull = E.copy().reshape((1, f, s, s)), np.empty((1, f, s, s))
            for i in range(f):
                for a in range(s):
                    for c in range(s):
                        pull[0, i, a, c] = U[i * s + a] * U[i * s + c]
            barrier = max(barrier, CLOSE * distance / (f * s))
            if step_curvature(A, trial, pull, y, barrier, floor, margin):
                E = trial[0]
        y = step_indicators(y, gradient, hessian, f)
    return best, best_y, best_E, best_gradient, best_hessian


@njit(cache=True, nogil=True)
def choose_group(y: Array, hessian: Array, left: NDArray[np.int64]) -> int:
    """The free group whose two choices gain most by h's quadratic model, the smaller of two first."""
    k = left.size
    H = np.empty((k, k))
    trace = 0.0
    for i in range(k):
        trace += hessian[left[i], left[i]]
        for j in range(k):
            H[i, j] = hessian[left[i], left[j]]
    for i in range(k):
        H[i, i] += 1e-8 * trace / k + 1e-300
    best, chosen = -1.0, left[0]
    if not invert(H):
        return chosen
    for i in range(k):
        at = y[left[i]]
        if at <= 2 * LEAST or at >= 1.0 - 1e-9:
            continue
        off, on = 0.5 * at**2 / H[i, i], 0.5 * (1.0 - at) ** 2 / H[i, i]
        score = 5.0 * min(off, on) + max(off, on)
        if score > best:
            best, chosen = score, left[i]
    return chosen


@njit(cache=True, nogil=True)
def dive(
    A: Array,
    b: Array,
    constant: float,
    price: float,
    root: Array,
    support: NDArray[np.bool_],
    share: float,
    most: int,
    floor: float,
    margin: float,
) -> tuple[bool, int, NDArray[np.int8], NDArray[np.int64], Array, NDArray[np.int8], Array, Array]:
    """Search from root blocks (p, s, s) and a support (p,), which is improved in place; at most `most` parts.

    Returns whether everything was closed by bounds of at least (1 - share) of the best value; the parts looked at; closed
    states (n, p), the point and the bound of each; the points' states (m, p), y (m, p) and E (m, p, s, s), given for the
    groups free in them.
    """
    p, s = support.size, root.shape[1]
    value = value_support(A, b, s, constant, price, support)
    rows, height, nodes, leaves = most * (p + 2) + 2 * p, 1, 0, 0
    closed, closers, bounds = np.empty((rows, p), np.int8), np.empty(rows, np.int64), np.empty(rows)
    states, indicators, blocks = np.empty((most, p), np.int8), np.empty((most, p)), np.empty((most, p, s, s))
    rows = 2 * most + 2
    stack, owns, inherited = np.zeros((rows, p), np.int8), np.empty(rows, np.int64), np.empty(rows)
    owns[0], inherited[0] = -1, -np.inf
    trial = np.empty(p, np.bool_)
    while height > 0:
        height -= 1
        state, own, parent = stack[height].copy(), owns[height], inherited[height]
        cutoff = value - share * abs(value)
        if parent >= cutoff:
            closed[leaves], closers[leaves], bounds[leaves] = state, own, parent
            leaves += 1
            continue
        if nodes == most:
            break
        ok, rest, targets, explained = condense_one(A, b, s, state)
        if not ok:
            break
        free = np.flatnonzero(state == 0)
        f, point = free.size, nodes
        settled = constant + price * np.count_nonzero(state == 1) - explained
        states[point] = state
        nodes += 1
        if f == 0:
            if settled < value:
                value = settled
                support[:] = state == 1
            closed[leaves], closers[leaves], bounds[leaves] = state, point, settled
            leaves += 1
            continue
        E, y = np.empty((f, s, s)), np.empty(f)
        for i in range(f):
            E[i] = root[free[i]] if own < 0 else blocks[own, free[i]]
            y[i] = (1.0 if support[free[i]] else LEAST) if own < 0 else indicators[own, free[i]]
        moves = 0 if own < 0 else MOVES
        best, y, E, gradient, hessian = bound_part(rest, targets, E, y, price, settled, cutoff, moves, floor, margin)
        if best == -np.inf:
            break
        for i in range(f):
            indicators[point, free[i]], blocks[point, free[i]] = y[i], E[i]
        if best < cutoff:
            trial[:] = state == 1
            for i in range(f):
                trial[free[i]] = y[i] >= 0.5
            found = value_support(A, b, s, constant, price, trial)
            if found < value + NEAR * abs(value):
                improve_support(A, b, s, price, trial)
                found = value_support(A, b, s, constant, price, trial)
            if found < value:
                value, cutoff = found, found - share * abs(found)
                support[:] = trial
        if best >= cutoff:
            closed[leaves], closers[leaves], bounds[leaves] = state, point, best
            leaves += 1
            continue
        left, count = np.empty(f, np.int64), 0
        for i in range(f):
            off, on = best + max(-gradient[i], 0.0), best + max(gradient[i], 0.0)
            if max(off, on) < cutoff:
                left[count] = i
                count += 1
                continue
            choice = -1 if off >= cutoff else 1
            state[free[i]] = choice
            closed[leaves], closers[leaves], bounds[leaves] = state, point, max(off, on)
            leaves += 1
            state[free[i]] = -choice
        owns[height : height + 2], inherited[height : height + 2] = point, best
        if count == 0:
            stack[height] = state
            height += 1
            continue
        i = choose_group(y, hessian, left[:count])
        for choice in (-1, 1):
            state[free[i]] = choice
            stack[height] = state
            inherited[height] = best + max(choice * gradient[i], 0.0)
            height += 1
    done = height == 0
    return (
        done,
        nodes,
        closed[:leaves],
        closers[:leaves],
        bounds[:leaves],
        states[:nodes],
        indicators[:nodes],
        blocks[:nodes],
    )
