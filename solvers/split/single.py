"""One output and a box that does not bind: good support, curvature aimed at it, and a compiled search, all in a few calls."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import final

import numpy as np
from numpy.typing import NDArray

from solvers.problem import Array
from solvers.split.aim import aim_curvature
from solvers.split.dive import dive
from solvers.split.leaf import SplitLeaf, SplitPoint
from solvers.split.moves import improve_support, value_support
from solvers.split.program import Split

SHARE = 0.9  # of the gap asked for is used to cut off; the rest pays for rounding
MOST = 4000  # parts
SECONDS = 3e-10, 5e-5  # about what a part takes, for each d^3 and besides
PATIENCE, LONGEST = 0.2, 2.0  # most of the time limit, and seconds: larger problems are the general search's


@dataclass(frozen=True, eq=False)
@final
class Dive:
    """A finished search: the support (p,), leaves that cover everything, the least of their bounds, parts looked at."""

    support: NDArray[np.bool_]
    leaves: tuple[SplitLeaf, ...]
    least: float
    nodes: int


def dive_single(
    split: Split, gap: float, time_limit: float, starts: tuple[NDArray[np.bool_], ...]
) -> tuple[NDArray[np.bool_], Dive | None]:
    """The best support found, and the search where it ended within its share of the time; for one output, no count."""
    A, b, s, p = split.A, split.Bt[0], split.size, len(split.whitener)
    support, value = np.zeros(p, dtype=bool), np.inf
    for start in (support, *starts):
        trial = start.copy()
        improve_support(A, b, s, split.price, trial)
        found = value_support(A, b, s, split.constant, split.price, trial)
        if found < value:
            support, value = trial, found
    most = min(MOST, int(min(PATIENCE * time_limit, LONGEST) / (SECONDS[0] * len(A) ** 3 + SECONDS[1])))
    if most == 0:
        return support, None
    E = np.empty((p, s, s))
    aim_curvature(A, b, s, split.price, split.smallest, support, E)
    done, nodes, closed, closers, bounds, states, y, blocks = dive(
        A, b, split.constant, split.price, E, support, SHARE * gap, most, split.floor, split.margin
    )
    if not done:
        return support, None
    points = {int(i): _read_point(states[i], y[i], blocks[i]) for i in set(closers.tolist())}
    leaves = zip(_list_groups(closed < 0), _list_groups(closed > 0), closers.tolist(), strict=True)
    return support, Dive(support, tuple(SplitLeaf(off, on, points[i]) for off, on, i in leaves), bounds.min(), nodes)


def _read_point(states: NDArray[np.int8], y: Array, blocks: Array) -> SplitPoint:
    free = np.flatnonzero(states == 0)
    E = blocks[free][None]
    return SplitPoint(states, y[free], E, np.zeros(E.shape[:3]))


def _list_groups(mask: NDArray[np.bool_]) -> list[tuple[int, ...]]:
    """Group numbers of each row."""
    ends = [0, *np.cumsum(np.count_nonzero(mask, axis=1)).tolist()]
    groups = np.nonzero(mask)[1].tolist()
    return [tuple(groups[i:j]) for i, j in pairwise(ends)]


@lru_cache(maxsize=1)
def compile_single() -> None:
    """Compile, or load from numba's cache, what this file calls: once a process."""
    A, b, support = np.eye(4) + 0.3, np.array([3.0, 0.1, 0.4, 0.2]), np.zeros(2, dtype=bool)
    improve_support(A, b, 2, 1.0, support)
    value_support(A, b, 2, 1.0, 1.0, support)
    E = np.empty((2, 2, 2))
    aim_curvature(A, b, 2, 1.0, 1.0, support, E)
    dive(A, b, 10.0, 1.0, E, support, 1e-4, 2, 1e-6, 1e-12)
