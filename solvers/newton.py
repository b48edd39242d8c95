"""A box-constrained quadratic with an l1 term, solved to the last digits by semismooth Newton.

    min over |w_k| <= limit_k  ||R w - t||^2 + sum_k ridge_k w_k^2 + kink ||w||_1      for every output on its own

Newton on the optimality condition w = prox(w - gradient) is an active-set method: each weight is zero, inside with a
sign, or at the box; one linear solve a step, exact once the pattern stops changing (Hintermueller, Ito, Kunisch 2002).
"""

import numpy as np

from solvers.problem import Array

STEPS = 40


def solve_quadratic(R: Array, T: Array, ridge: Array, kink: float, limit: Array) -> Array:
    """(m, o) weights for R (k, m), T (k, o), ridge and limit (m,). A pattern that cycles is left after 40 steps, so the
    caller checks the duality gap."""
    return solve_model(R.T @ R + np.diag(ridge), R.T @ T, kink, limit)


def solve_model(hessian: Array, linear: Array, kink: float, limit: Array) -> Array:
    """min over |w_k| <= limit_k of w'H w - 2 linear'w + kink ||w||_1 for H (m, m) and every column of linear (m, o)."""
    weights = _solve(hessian, linear)
    if kink == 0 and np.all(np.abs(weights) <= limit[:, None]):
        return weights
    scale = np.where(np.diag(hessian) > 0, np.diag(hessian), 1.0)
    for output in range(weights.shape[1]):
        weights[:, output] = _pattern_steps(hessian, linear[:, output], weights[:, output], scale, 0.5 * kink, limit)
    return weights


def _pattern_steps(hessian: Array, linear: Array, start: Array, scale: Array, kink: float, limit: Array) -> Array:
    w, pattern = np.clip(start, -limit, limit), None
    for _ in range(STEPS):
        # the scaled fixed-point map of the optimality condition decides where each weight belongs
        pull = scale * w - (hessian @ w - linear)
        size = np.abs(pull) - kink
        zero, edge = size <= 0, size >= scale * limit
        sign = np.sign(pull)
        following = np.where(zero, 0.0, np.where(edge, 2.0, 1.0)) * sign
        if pattern is not None and np.array_equal(following, pattern):
            break
        pattern, inside = following, ~(zero | edge)
        w = np.zeros_like(w)
        w[edge & ~zero] = (sign * limit)[edge & ~zero]
        if np.any(inside):
            right = linear[inside] - kink * sign[inside] - hessian[inside] @ w
            w[inside] = _solve(hessian[np.ix_(inside, inside)], right)
    return np.clip(w, -limit, limit)


def _solve(matrix: Array, right: Array) -> Array:
    try:
        return np.asarray(np.linalg.solve(matrix, right), dtype=np.float64)
    except np.linalg.LinAlgError:  # duplicate or zero columns without curvature: any least-squares solution will do
        return np.asarray(np.linalg.lstsq(matrix, right, rcond=None)[0], dtype=np.float64)
