"""Anderson extrapolation of a run of iterates: compiled, for `block_kernel.py`.

The combination sum_k c_k x_k, sum c = 1, whose combined change sum_k c_k (x_k - x_(k-1)) is shortest: c = C^-1 1 / (1'C^-1 1),
C the changes' Gram matrix (Anderson 1965; for coordinate descent Bertrand and Massias, AISTATS 2021).
"""

from typing import Any

import numpy as np
from numba import njit

MEMORY = 5  # iterates combined
DAMPING = 1e-12  # of the trace of C, which is nearly singular close to the optimum


@njit(cache=True, nogil=True, error_model="numpy")
def extrapolate(past: Any, bound: float, mixed: Any) -> bool:
    """Into mixed (n,), cut at +-bound, from past (MEMORY + 1, n), oldest first; False where the changes determine nothing."""
    products, shares, level = np.zeros((MEMORY, MEMORY)), np.ones(MEMORY), 0.0
    for k in range(MEMORY):
        for i in range(k + 1):
            for m in range(mixed.size):
                products[k, i] += (past[k + 1, m] - past[k, m]) * (past[i + 1, m] - past[i, m])
            products[i, k] = products[k, i]
        level += DAMPING * products[k, k]
    for k in range(MEMORY):
        products[k, k] += level
    for k in range(MEMORY):  # elimination without pivots: C is positive definite, or there is no answer
        if not products[k, k] > 0.0:
            return False
        for i in range(k + 1, MEMORY):
            factor = products[i, k] / products[k, k]
            shares[i] -= factor * shares[k]
            for m in range(k, MEMORY):
                products[i, m] -= factor * products[k, m]
    total = 0.0
    for k in range(MEMORY - 1, -1, -1):
        for i in range(k + 1, MEMORY):
            shares[k] -= products[k, i] * shares[i]
        shares[k] /= products[k, k]
        total += shares[k]
    if not (total > 0.0 and total < np.inf):
        return False
    for m in range(mixed.size):
        value = 0.0
        for k in range(MEMORY):
            value += shares[k] * past[k + 1, m]
        mixed[m] = min(max(value / total, -bound), bound)
    return True
