"""What an optimizer does to a row of weights, compiled: new weights into `x`, state in place, and the sum of the squares of x.

The arithmetic is torch's own, operation by operation in the weights' precision; only the additions of the squares, in float64,
may be reordered.
"""

import numpy as np
from numba import njit

loops = njit(error_model="numpy")
sums = njit(error_model="numpy", fastmath={"reassoc", "contract"})


@loops
def _descended(w, g, rule):
    """w - lr (g + decay w), in the weights' own precision, as torch does."""
    return w - rule[0] * (g + rule[1] * w)


@loops
def _pushed(w, g, m, rule):
    """(w, m): d = g + decay w; m = momentum m + d; w - lr m, or w - lr (d + momentum m) by Nesterov."""
    d = g + rule[1] * w
    b = rule[2] * m + d
    return w - rule[0] * (d + rule[2] * b if rule[3] != 0 else b), b


@loops
def _adapted(w, g, m, v, rule):
    """(w, m, v) of AdamW: rule = (1 - lr decay, 1 - beta1, beta2, 1 - beta2, sqrt(1 - beta2^t), eps, lr / (1 - beta1^t))."""
    first = m + rule[1] * (g - m)
    second = v * rule[2] + rule[3] * g * g
    return w * rule[0] - rule[6] * (first / (np.sqrt(second) / rule[4] + rule[5])), first, second


@sums
def load(x, w):
    """x = w; the sum of squares, as the other three give it: only its additions may be reordered."""
    total = 0.0
    for i in range(len(w)):
        x[i] = w[i]
        total += np.float64(w[i]) * np.float64(w[i])
    return total


@sums
def descend(x, w, g, rule):
    total, kept = 0.0, (rule[0], rule[1])
    for i in range(len(w)):
        new = _descended(w[i], g[i], kept)
        x[i] = new
        total += np.float64(new) * np.float64(new)
    return total


@sums
def descend_with_momentum(x, w, g, m, rule):
    total, kept = 0.0, (rule[0], rule[1], rule[2], rule[3])
    for i in range(len(w)):
        new, m[i] = _pushed(w[i], g[i], m[i], kept)
        x[i] = new
        total += np.float64(new) * np.float64(new)
    return total


@sums
def adam(x, w, g, m, v, rule):
    total, kept = 0.0, (rule[0], rule[1], rule[2], rule[3], rule[4], rule[5], rule[6])
    for i in range(len(w)):
        new, m[i], v[i] = _adapted(w[i], g[i], m[i], v[i], kept)
        x[i] = new
        total += np.float64(new) * np.float64(new)
    return total
