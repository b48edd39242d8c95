"""The first incumbent, before any relaxation: all groups on, then the groups that pay least are dropped one by one.

A sweep costs one exact fit a group; groups are tried in the order of what dropping each from the full choice costs.
"""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

SHARE = 0.25  # of a time limit: the rest is for the bound


def drop_groups(value: Callable[[NDArray[np.bool_]], float], n_groups: int, deadline: float) -> None:
    """Sweep until no single drop helps or until `deadline` (perf_counter). `value(support)` fits a support (p,) bool and
    remembers the best one; the full choice is always fitted."""
    support = np.ones(n_groups, dtype=bool)
    best, costs = value(support), np.full(n_groups, np.inf)
    for j in range(n_groups):
        if time.perf_counter() > deadline:
            break
        costs[j] = value(_without(support, j))
    order, improved = np.argsort(costs, kind="stable"), True
    while improved:
        improved = False
        for j in order[support[order]]:
            if time.perf_counter() > deadline:
                return
            found = value(_without(support, j))
            if found < best:
                support, best, improved = _without(support, j), found, True


def _without(support: NDArray[np.bool_], group: int) -> NDArray[np.bool_]:
    dropped = support.copy()
    dropped[group] = False
    return dropped
