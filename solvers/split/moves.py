"""Compiled search for a good support with one output: forward steps, then the best drop, addition or exchange while one helps.

A sweep of the Gram matrix [A b; b' 0] on a group turns it into the regression on that group: what is left over for the groups
outside, coefficients and minus the inverse for those inside. Every value is then a look at blocks (leaps and bounds, Furnival
and Wilson 1974, uses the same table).
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from solvers.problem import Array
from solvers.split.aim import places
from solvers.split.kernel import invert_small
from solvers.split.lapack import factor, solve_factored


@njit(cache=True, nogil=True)
def sweep(table: Array, j: int, s: int, inside: bool) -> bool:
    """Take group j out where it is inside, else put it in, in place; False, nothing changed, where its block is singular.

    Inside, the block is minus a positive definite matrix; a sweep out undoes a sweep in.
    """
    n, sign = table.shape[0], -1.0 if inside else 1.0
    block, back, rows = np.empty((s, s)), np.empty((s, s)), table[j * s : (j + 1) * s].copy()
    for a in range(s):
        for c in range(s):
            block[a, c] = sign * rows[a, j * s + c]
    if not invert_small(block, back):
        return False
    pressed = np.zeros((s, n))
    for a in range(s):
        for c in range(s):
            weight = sign * back[a, c]
            for k in range(n):
                pressed[a, k] += weight * rows[c, k]
    for i in range(n):
        for a in range(s):
            weight = rows[a, i]
            for k in range(n):
                table[i, k] -= weight * pressed[a, k]
    for a in range(s):
        for k in range(n):
            table[j * s + a, k] = sign * pressed[a, k]
            table[k, j * s + a] = sign * pressed[a, k]
    for a in range(s):
        for c in range(s):
            table[j * s + a, j * s + c] = -sign * back[a, c]
    return True


@njit(cache=True, nogil=True)
def weigh_move(table: Array, j: int, s: int, inside: bool) -> float:
    """What the loss changes when group j goes in (less than 0) or out; +inf where its block is singular."""
    n, sign, total = table.shape[0] - 1, -1.0 if inside else 1.0, 0.0
    if s == 1:
        return -(table[j, n] ** 2) / table[j, j] if sign * table[j, j] > 0.0 else np.inf
    block, back = np.empty((s, s)), np.empty((s, s))
    for a in range(s):
        for c in range(s):
            block[a, c] = sign * table[j * s + a, j * s + c]
    if not invert_small(block, back):
        return np.inf
    for a in range(s):
        for c in range(s):
            total -= sign * table[j * s + a, n] * back[a, c] * table[j * s + c, n]
    return total


@njit(cache=True, nogil=True)
def weigh_exchange(table: Array, out: int, into: int, s: int) -> float:
    """What the loss changes when group `out`, inside, leaves and `into` comes; +inf where a block is singular."""
    n, total = table.shape[0] - 1, 0.0
    block, back, other = np.empty((s, s)), np.empty((s, s)), np.empty((s, s))
    left, given, cross = np.empty(s), np.zeros(s), np.zeros((s, s))
    for a in range(s):
        for c in range(s):
            block[a, c] = -table[out * s + a, out * s + c]
    if not invert_small(block, back):
        return np.inf
    for a in range(s):
        for c in range(s):
            given[a] += back[a, c] * table[out * s + c, n]
            for k in range(s):
                cross[a, c] += back[a, k] * table[out * s + k, into * s + c]
        total += given[a] * table[out * s + a, n]
    # the rows of `into` once `out` is gone
    for a in range(s):
        left[a] = table[into * s + a, n]
        for k in range(s):
            left[a] += table[out * s + k, into * s + a] * given[k]
        for c in range(s):
            block[a, c] = table[into * s + a, into * s + c]
            for k in range(s):
                block[a, c] += table[out * s + k, into * s + a] * cross[k, c]
    if not invert_small(block, other):
        return np.inf
    for a in range(s):
        for c in range(s):
            total -= left[a] * other[a, c] * left[c]
    return total


@njit(cache=True, nogil=True)
def improve_support(A: Array, b: Array, s: int, price: float, support: NDArray[np.bool_]) -> None:
    """Best move by move from `support` (p,), in place, until none helps: one group in or out, else one for another."""
    p, d = support.size, b.size
    table = np.zeros((d + 1, d + 1))
    table[:d, :d] = A
    table[:d, d] = b
    table[d, :d] = b
    for j in range(p):
        if support[j] and not sweep(table, j, s, False):
            support[j] = False
    for _ in range(10 * p):
        best, first, second = -1e-12 * (abs(table[d, d]) + price), -1, -1
        for j in range(p):
            change = weigh_move(table, j, s, support[j]) + (-price if support[j] else price)
            if change < best:
                best, first = change, j
        if first < 0:
            for i in range(p):
                for j in range(p):
                    if support[i] and not support[j]:
                        change = weigh_exchange(table, i, j, s)
                        if change < best:
                            best, first, second = change, i, j
        for j in (first, second):
            if j >= 0:
                if not sweep(table, j, s, support[j]):
                    return
                support[j] = not support[j]
        if first < 0:
            return


@njit(cache=True, nogil=True)
def value_support(A: Array, b: Array, s: int, constant: float, price: float, support: NDArray[np.bool_]) -> float:
    """Value of a support (p,), from A itself; +inf where its factorisation fails."""
    rows = places(support, True, s)
    n = rows.size
    block, fit = np.empty((n, n)), np.empty((1, n))
    for i in range(n):
        fit[0, i] = b[rows[i]]
        for j in range(n):
            block[i, j] = A[rows[i], rows[j]]
    value = constant + price * (n // s)
    if n == 0:
        return value
    if not factor(block):
        return np.inf
    solve_factored(block, fit)
    for i in range(n):
        value -= fit[0, i] * b[rows[i]]
    return value
