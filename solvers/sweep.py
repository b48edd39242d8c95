"""The first incumbent where a count of groups may hold: groups dropped one by one from all, or added one by one to none.

Without a count: `greedy.py`, which drops while that pays. With one, forward selection up to the count comes first, so
that a point that keeps the count is there at once.
"""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from solvers.greedy import drop_groups


def sweep_supports(
    value: Callable[[NDArray[np.bool_]], float], n_groups: int, count: int | None, deadline: float
) -> None:
    """`value(support)` fits a support (p,) bool, remembers the best, and is +inf where it keeps too many groups."""
    if count is None or count == n_groups:
        drop_groups(value, n_groups, deadline)
        return
    support = np.zeros(n_groups, dtype=bool)
    best = value(support)
    for _ in range(count):
        found = {}
        for j in np.flatnonzero(~support):
            if time.perf_counter() > deadline:
                return
            grown = support.copy()
            grown[j] = True
            found[int(j)] = value(grown)
        if not found or min(found.values()) >= best:
            return
        chosen = min(found, key=lambda j: found[j])
        best, support[chosen] = found[chosen], True
