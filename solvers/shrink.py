"""Prox of one scalar cost on its box: the step for groups whose indicator is fixed to one.

argmin over |s| <= M of (s - v)^2 / 2 + step phi(s): the root of s + step phi'(s) = |v|, cut at the box.
"""

import numpy as np

from solvers.problem import Array, Regulariser

BISECTIONS = 64  # halves the bracket down to the last bit


def shrink(regulariser: Regulariser, v: Array, step: Array) -> Array:
    """Elementwise scalar prox of v (g, n) with step (g,) > 0; exact zeros."""
    tau, size = step[:, None], np.abs(v)
    top = size if regulariser.bound is None else np.minimum(size, regulariser.bound)
    if regulariser.quadratic is not None:
        a, b = regulariser.quadratic
        return np.copysign(np.minimum(np.maximum(size - tau * b, 0.0) / (1 + 2 * tau * a), top), v)

    def excess(s: Array) -> Array:
        return s + tau * regulariser.cost_derivative(s) - size

    low, high = np.zeros_like(top), top
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        above = excess(middle) > 0
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    root = np.where(excess(top) <= 0, top, 0.5 * (low + high))
    return np.copysign(np.where(excess(np.zeros_like(top)) >= 0, 0.0, root), v)
