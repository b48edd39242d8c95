"""The convex problem that is left when the indicators are fixed: weights of a given support, box included.

    min  L(X W, Y) + strength * sum_{j on} [ sum_k phi(w_jk) + price ]

Squared loss and phi = a s^2 + b s: semismooth Newton. Any other loss or cost, and a Newton that cycles: the relaxation's
method with every group fixed. Both are accepted by their duality gap only.
"""

import numpy as np
from numpy.typing import NDArray

from solvers.bend import settle
from solvers.newton import solve_quadratic
from solvers.projected import Point, evaluate, fixed_states, minimise
from solvers.reduced import Reduced

GAP = 1e-10


def fit_support(reduced: Reduced, support: NDArray[np.bool_], deadline: float = np.inf) -> Point:
    """Weights on `support` (p,) bool, solved to a relative duality gap of 1e-10 where floating point allows.

    The first-order method stops at `deadline` (perf_counter); primal and dual value hold there too.
    """
    states = fixed_states(support)
    weights = reduced.zero()
    if reduced.squared and reduced.regulariser.quadratic is not None and np.any(support):
        rows = support[reduced.problem.labels]
        a, b = reduced.regulariser.quadratic
        strength, bound, n = reduced.problem.strength, reduced.regulariser.bound, int(np.count_nonzero(rows))
        limit = np.full(n, np.inf if bound is None else bound)
        weights[rows] = solve_quadratic(reduced.R[:, rows], reduced.T, np.full(n, strength * a), strength * b, limit)
    if not reduced.squared:
        return _fit_bent(reduced, states, support, deadline)
    primal, dual, scale = evaluate(reduced, states, weights)
    point = Point(weights, primal, dual, scale, 1)
    if primal - dual <= GAP * max(1e-12, abs(primal)):
        return point
    slow = minimise(reduced, states, weights, tolerance=GAP, deadline=deadline)
    return slow if slow.primal <= point.primal else point


def _fit_bent(reduced: Reduced, states: NDArray[np.int8], support: NDArray[np.bool_], deadline: float) -> Point:
    """A loss that is not quadratic: Newton where it is smooth and the cost quadratic, else the relaxation's method."""
    weights = reduced.zero()
    if reduced.loss.smooth and reduced.regulariser.quadratic is not None:
        weights = settle(reduced, support, weights)
        primal, dual, scale = evaluate(reduced, states, weights)
        if primal - dual <= GAP * max(1e-12, abs(primal)):
            return Point(weights, primal, dual, scale, 1)
    return minimise(reduced, states, weights, tolerance=GAP, deadline=deadline)
