"""Compiled look at one part of the program, one output and no box: h, its derivatives, and the part itself.

The same formulas as `assess` (solvers/split/kernel.py), less what several outputs and multipliers ask for: with K z = S b the
weights are S z, and U_j = z_j / sqrt(y_j) needs no inverse of a block.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from solvers.problem import Array
from solvers.split.aim import places
from solvers.split.lapack import factor, invert_factor, solve_factored


@njit(cache=True, nogil=True)
def condense_one(A: Array, b: Array, s: int, states: NDArray[np.int8]) -> tuple[bool, Array, Array, float]:
    """Schur complement of the groups on, in the free ones: whether it exists, A, b, and what the groups on explain."""
    free, on = places(states, 0, s), places(states, 1, s)
    f, k = free.size, on.size
    rest, targets = np.empty((f, f)), np.empty(f)
    for i in range(f):
        targets[i] = b[free[i]]
        for j in range(f):
            rest[i, j] = A[free[i], free[j]]
    if k == 0:
        return True, rest, targets, 0.0
    block, cross = np.empty((k, k)), np.empty((f + 1, k))
    for i in range(k):
        for j in range(k):
            block[i, j] = A[on[i], on[j]]
        for j in range(f):
            cross[j, i] = A[on[i], free[j]]
        cross[f, i] = b[on[i]]
    pressed = cross.copy()
    if not factor(block) or not solve_factored(block, pressed):
        return False, rest, targets, 0.0
    for i in range(f):
        for j in range(i + 1):
            total = 0.0
            for m in range(k):
                total += cross[i, m] * pressed[j, m]
            rest[i, j] -= total
            rest[j, i] = rest[i, j]
        for m in range(k):
            targets[i] -= cross[f, m] * pressed[i, m]
    explained = 0.0
    for m in range(k):
        explained += cross[f, m] * pressed[f, m]
    return True, rest, targets, explained


@njit(cache=True, nogil=True)
def glance(A: Array, b: Array, E: Array, y: Array, price: float) -> tuple[bool, float, Array, Array, Array]:
    """Whether the factorisation exists, h, its gradient (f,) and Hessian (f, f), and U (f s,), at y >= LEAST."""
    f, s = E.shape[0], E.shape[1]
    d = f * s
    gradient, hessian, root = np.empty(f), np.empty((f, f)), np.sqrt(y)
    K, z, U = np.empty((d, d)), np.empty((1, d)), np.empty(d)
    for i in range(d):
        for j in range(d):
            K[i, j] = root[i // s] * root[j // s] * A[i, j]
    for j in range(f):
        for a in range(s):
            z[0, j * s + a] = root[j] * b[j * s + a]
            for c in range(s):
                K[j * s + a, j * s + c] += (1.0 - y[j]) * E[j, a, c]
    if not factor(K):
        return False, 0.0, gradient, hessian, U
    h = 0.0
    solve_factored(K, z)
    invert_factor(K)
    for j in range(f):
        h += price * y[j]
        for a in range(s):
            h -= z[0, j * s + a] * root[j] * b[j * s + a]
            U[j * s + a] = z[0, j * s + a] / root[j]
    C = np.empty(d)
    for j in range(f):
        gradient[j] = price
        for a in range(s):
            total = 0.0
            for c in range(s):
                total += E[j, a, c] * U[j * s + c]
            C[j * s + a] = total
            gradient[j] -= total * U[j * s + a]
    for i in range(f):
        for j in range(i + 1):
            total = 0.0
            for a in range(s):
                for c in range(s):
                    total -= C[i * s + a] * K[i * s + a, j * s + c] * C[j * s + c]
            if i == j:
                total += price - gradient[j]
            hessian[i, j] = 2.0 * total / (root[i] * root[j])
            hessian[j, i] = hessian[i, j]
    return True, h, gradient, hessian, U
