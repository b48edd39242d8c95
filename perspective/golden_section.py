"""Golden section on many intervals at once, for the oracle."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
GOLDEN = (5**0.5 - 1) / 2


def search_golden(objective: Callable[[Array], Array], low: Array, high: Array) -> tuple[Array, Array]:
    """Golden section on every element of [low, high] at once, both ends compared too; (argument, minimum)."""
    ends = (low, high)
    for _ in range(75):
        inner = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        left = objective(inner[0]) < objective(inner[1])
        low, high = np.where(left, low, inner[0]), np.where(left, inner[1], high)
    best = (low + high) / 2
    value = objective(best)
    for end in ends:
        at_end = objective(end)
        best, value = np.where(at_end <= value, end, best), np.minimum(at_end, value)
    return best, value
