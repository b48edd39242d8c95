"""A step of the indicators on the logarithmic scale, compiled: few looks even where an indicator has to grow a thousandfold."""

import numpy as np
from numba import njit

from solvers.split.kernel import LEAST, descend, step_indicators

FURTHEST = 2.3  # of a logarithm in one step: a factor of ten


@njit(cache=True, nogil=True)
def step_logarithms(y, gradient, hessian, room):
    """Newton step of log y in [log LEAST, 0]; where it would pass sum y <= room, `step_indicators` takes it.

    h bends like sum_j a_j / y_j + b_j y_j: Newton's method in y grows a small y_j by half in each step, in log y it doubles its
    digits. Hessian of h(exp(z)): diag(y) H diag(y) + diag(gradient y), of the last only what is not negative, so that it stays
    positive definite.
    """
    p = y.size
    H = np.empty((p, p))
    slope = gradient * y
    trace = 0.0
    for j in range(p):
        for i in range(p):
            H[j, i] = hessian[j, i] * y[j] * y[i]
        trace += H[j, j]
    for j in range(p):
        H[j, j] += max(slope[j], 0.0) + 1e-9 * trace / p + 1e-300
    change = np.zeros(p)
    low, high = np.maximum(np.log(LEAST / y), -FURTHEST), np.minimum(-np.log(y), FURTHEST)
    descend(H, slope, change, low, high, 100)
    moved = np.minimum(np.maximum(y * np.exp(change), LEAST), 1.0)
    if np.sum(moved) > room + 1e-9:
        return step_indicators(y, gradient, hessian, room)
    return moved
