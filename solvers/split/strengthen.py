"""How much curvature to move from the Gram matrix into the perspective at the root: none, uniform, sdp or blocks.

none     the ridge of the cost alone: the plain perspective relaxation
uniform  the smallest eigenvalue of A = X'X + strength a I, the same for all weights
sdp      t_j A_jj with the largest sum of t_j such that A - blockdiag(t_j A_jj) is positive semidefinite (Frangioni and
         Gentile 2007), by a barrier method on p unknowns
blocks   full blocks, for clusters of principal outputs, improved in the tree for the bound itself (solvers/split/program.py)
"""

from typing import Literal, get_args

import numpy as np

from perspective.errors import InputError
from solvers.problem import Array
from solvers.split.program import Split

Strengthen = Literal["none", "uniform", "sdp", "blocks"]
MODES: tuple[str, ...] = get_args(Strengthen)
CLUSTERS = 16  # most output clusters of "blocks"
SUM_GAP = 1e-6  # of the sum of t_j: where the barrier method stops
LEAST_SHARE = 1e-6  # t_j stays above: a block without curvature has no perspective


def output_clusters(mode: str, outputs: int) -> int:
    """Clusters of outputs that get curvature of their own."""
    return min(outputs, CLUSTERS) if mode == "blocks" else 1


def root_curvature(split: Split, mode: str) -> Array:
    """Blocks E (K, p, s, s) in whitened features, A - E inside the cone by the split's margin."""
    p, s = split.whitener.shape[:2]
    clusters = len(split.starts) - 1
    if mode == "blocks":
        level = min(max(0.5 * split.smallest, 2 * split.floor), 0.9 * split.smallest)
        return np.ascontiguousarray(np.broadcast_to(level * np.eye(s), (clusters, p, s, s)))
    if mode == "sdp":
        E = largest_shares(split)[:, None, None] * np.eye(s)
    elif mode in ("none", "uniform"):
        squares = np.einsum("jab,jcb->jac", split.whitener, split.whitener)
        E = _level(split, mode) * 0.5 * (squares + squares.swapaxes(1, 2))
        groups, empty = np.nonzero(split.slots == split.problem.X.shape[1])
        E[groups, empty, empty] = 0.5  # an empty place has curvature 1 of its own and explains nothing
    else:
        raise InputError(f"unknown strengthening {mode!r}; valid ones: {', '.join(MODES)}")
    return np.ascontiguousarray(np.broadcast_to(pull_inside(split, E), (clusters, p, s, s)))


def largest_shares(split: Split) -> Array:
    """t (p,) > 0 with the largest sum such that A - blockdiag(t_j I) is positive semidefinite, A whitened.

    Newton's method on sum t_j + barrier (log det (A - T) + sum log t_j), the barrier lowered until its duality gap, its
    weight times the number of constraints, is SUM_GAP of the sum.
    """
    A, s = split.A, split.size
    p = len(A) // s
    t = np.full(p, 0.5 * split.smallest)
    barrier = 0.1 * float(np.sum(t)) / len(A)
    while True:
        for _ in range(50):
            inverse = np.linalg.inv(A - np.diag(np.repeat(t, s)))
            slope = 1 - barrier * np.trace(
                inverse.reshape(p, s, p, s)[np.arange(p), :, np.arange(p), :], axis1=1, axis2=2
            )
            slope += barrier / t
            bend = barrier * np.sum(inverse.reshape(p, s, p, s) ** 2, axis=(1, 3)) + np.diag(barrier / t**2)
            step = np.linalg.solve(bend, slope)
            decrement = float(np.sqrt(max(slope @ step, 0.0) / barrier))
            t = t + step / (1 + decrement)  # inside the barrier's unit ball, hence inside the cone
            if decrement < 0.1:
                break
        if barrier * (len(A) + p) <= SUM_GAP * float(np.sum(t)):
            return np.maximum(t * (1 - SUM_GAP), LEAST_SHARE * split.smallest)
        barrier *= 0.3


def pull_inside(split: Split, E: Array) -> Array:
    """E (p, s, s) scaled down until A - E is positive definite by the split's margin."""
    p, s = E.shape[:2]
    short = 1e-9
    while short < 1:
        rest = split.A - split.margin * np.eye(p * s)
        rest.reshape(p, s, p, s)[np.arange(p), :, np.arange(p), :] -= (1 - short) * E
        try:
            np.linalg.cholesky(rest)
            return (1 - short) * E
        except np.linalg.LinAlgError:
            short *= 10
    raise InputError("the problem's Gram matrix is singular to rounding; use a larger alpha, or strengthen=None")


def _level(split: Split, mode: str) -> float:
    quadratic = split.problem.regulariser.quadratic
    assert quadratic is not None
    ridge = split.problem.strength * quadratic[0]
    if mode == "none":
        return ridge
    gram = split.problem.X.T @ split.problem.X
    return ridge + max(float(np.linalg.eigvalsh(gram)[0]), 0.0)
