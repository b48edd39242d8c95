"""Compiled choice of the curvature from a point: blocks that prove a good support at once, where the Gram matrix allows it.

One output, features whitened. Let W be the fit on a support S and r = b - A W what it leaves. At y = 1 on S and y -> 0
elsewhere, h's tangent proves that S is optimal exactly where

    W_j' E_j W_j >= price  for j in S,      r_j' E_j^-1 r_j <= price  for the others.

Rank one suffices: E_j = level I + t_j q_j q_j'. Outside S q_j is r_j's direction; in S it is (A^-1)_jj^-1 W_j, which asks
least of A. By Schur's complement blockdiag(E) < A where D P D < I, P = Q'(A - level I)^-1 Q and D = diag(sqrt(t)): p unknowns
in the place of d. Where it fails, with D P D <= I + X, diagonal dominance of X says how much t has to give.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from solvers.problem import Array
from solvers.split.lapack import factor, invert, solve_factored

LEVEL = 0.3  # of the smallest eigenvalue of A, kept in every direction
SPARE = 0.98  # of the way to the border of the cone


@njit(cache=True, nogil=True)
def aim_curvature(
    A: Array, b: Array, s: int, price: float, smallest: float, support: NDArray[np.bool_], out: Array
) -> bool:
    """Blocks into out (p, s, s) for a support (p,); False, and out is level I, where a factorisation fails."""
    p, level = support.size, LEVEL * smallest
    for j in range(p):
        for a in range(s):
            for c in range(s):
                out[j, a, c] = level if a == c else 0.0
    inverse = A.copy()
    for i in range(p * s):
        inverse[i, i] -= level
    if not invert(inverse):
        return False
    W = fit_on(A, b, s, support)
    rest = b - np.dot(A, W)
    Q, t, own = np.empty((p, s)), np.empty(p), np.empty((s, s))
    for j in range(p):
        if support[j]:
            own[:, :] = inverse[j * s : (j + 1) * s, j * s : (j + 1) * s]
            if not factor(own):
                return False
            direction = W[j * s : (j + 1) * s].copy().reshape(1, s)
            solve_factored(own, direction)
            along, length = 0.0, 0.0
            for a in range(s):
                along += direction[0, a] * W[j * s + a]
                length += W[j * s + a] ** 2
            t[j] = max(price - level * length, 1e-6 * price) / max(along**2, 1e-300)
            Q[j] = direction[0]
        else:
            Q[j] = rest[j * s : (j + 1) * s]
            length = np.sum(Q[j] ** 2)
            t[j] = max(1.0 / price - level / max(length, 1e-300), 1e-6 / price)
    pressed, D = np.zeros((p * s, p)), np.sqrt(t)
    for j in range(p):
        for a in range(s):
            weight = Q[j, a] * D[j]
            for i in range(p * s):
                pressed[i, j] += inverse[j * s + a, i] * weight
    M = np.zeros((p, p))
    for i in range(p):
        for a in range(s):
            weight = Q[i, a] * D[i]
            for j in range(p):
                M[i, j] += weight * pressed[i * s + a, j]
    values, vectors = np.linalg.eigh(M)
    top = max(values[p - 1], 1e-3)  # nothing asks for more than a thousand times its share
    for j in range(p):
        scale = SPARE / top
        if top > SPARE:
            # X = sum of (value - 1) v v' over what passes the border: X <= diag(its absolute row sums)
            scale = 0.0
            for i in range(p):
                total = 0.0
                for k in range(p):
                    if values[k] > SPARE:
                        total += (values[k] / SPARE - 1.0) * vectors[j, k] * vectors[i, k]
                scale += abs(total)
            scale = SPARE / (1.0 + scale)
        for a in range(s):
            for c in range(s):
                out[j, a, c] += (scale * t[j]) * (Q[j, a] * Q[j, c])
    return True


@njit(cache=True, nogil=True)
def fit_on(A: Array, b: Array, s: int, support: NDArray[np.bool_]) -> Array:
    """Weights (d,) of the least squares fit on a support, zero elsewhere."""
    W = np.zeros(b.size)
    rows = places(support, True, s)
    if rows.size == 0:
        return W
    block, fit = np.empty((rows.size, rows.size)), np.empty((1, rows.size))
    for i in range(rows.size):
        fit[0, i] = b[rows[i]]
        for j in range(rows.size):
            block[i, j] = A[rows[i], rows[j]]
    factor(block)
    solve_factored(block, fit)
    for i in range(rows.size):
        W[rows[i]] = fit[0, i]
    return W


@njit(cache=True, nogil=True)
def places(states: NDArray[np.int8] | NDArray[np.bool_], wanted: int, s: int) -> NDArray[np.int64]:
    """Features of the groups in a state."""
    count = 0
    for j in range(states.size):
        if states[j] == wanted:
            count += s
    rows = np.empty(count, dtype=np.int64)
    count = 0
    for j in range(states.size):
        if states[j] == wanted:
            for a in range(s):
                rows[count] = j * s + a
                count += 1
    return rows
