"""The squared loss through its Gram matrix: what block coordinate descent asks of the data, formed once.

    ||X W - Y||^2 = tr W'G W - 2 tr B'W + ||Y||^2,   G = X'X,  B = X'Y,  features in the order of their groups.

Squares lose digits that residuals keep, so nothing computed from G is a bound: the certificate goes back to X.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from solvers.problem import Array, LayerProblem

MOST = 4096  # features: the matrix then takes 128 MiB


@dataclass(frozen=True, eq=False)
@final
class Gram:
    """G (d, d) and B (d, o) in the order of the groups; group j has the places begins[j] .. begins[j + 1] - 1.

    order (d,): the feature at each place. curvatures (p,) with G_jj <= curvatures_j I. squares = ||Y||^2.
    """

    G: Array
    B: Array
    order: NDArray[np.intp]
    begins: NDArray[np.intp]
    curvatures: Array
    squares: float


def form_gram(problem: LayerProblem) -> Gram:
    """Multiply once; equal labels need not be neighbours."""
    order = np.argsort(problem.labels, kind="stable")
    begins = np.concatenate([[0], np.cumsum(np.bincount(problem.labels, minlength=problem.n_groups))]).astype(np.intp)
    X, Y = problem.X, problem.targets2d
    if np.any(order[1:] < order[:-1]):
        X = X[:, order]
    G, B = np.ascontiguousarray(X.T @ X), np.ascontiguousarray(X.T @ Y)
    return Gram(G, B, order, begins, block_curvatures(G, begins), float(np.sum(Y**2)))


def block_curvatures(G: Array, begins: NDArray[np.intp]) -> Array:
    """(p,) upper bounds of the largest eigenvalue of each G_jj: ||G_jj^8||_F^(1/8), at most n^(1/16) times too large."""
    sizes, found = np.diff(begins), np.ones(len(begins) - 1)  # one for zero columns: any step will do
    for size in np.unique(sizes):
        own = np.flatnonzero(sizes == size)
        places = begins[own][:, None] + np.arange(size)
        blocks = G[places[:, :, None], places[:, None, :]]
        scales = np.trace(blocks, axis1=1, axis2=2)
        own, blocks, scales = own[scales > 0], blocks[scales > 0], scales[scales > 0]
        power = blocks / scales[:, None, None]
        for _ in range(3 if size > 1 else 0):
            power = power @ power
        found[own] = scales * np.sum(power**2, axis=(1, 2)) ** 0.0625
    return found
