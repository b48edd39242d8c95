"""The convex problem of a node: some groups and some activation signs fixed, the rest relaxed to its convex hull.

    min  sum_io f_io(z_io) + strength * sum_j r_j(w_j),   z = X W        (f: pieces of `relu_loss`; r: projected perspective)

by alternating directions (ADMM; Boyd et al. 2011) on the copies z of X W and V of W: both minimisations are closed-form
proxes, so kinks, ranges and the box are exact, and the linear system is factorised once a problem. The multiplier of
z = X W is the dual point; its bound is evaluated by `relu_certificate`, so stopping early is always valid.
"""

import time
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from solvers.dual import FREE, ON
from solvers.problem import Array, LayerProblem
from solvers.relu.certificate import relu_dual_value
from solvers.relu.loss import Signs, split
from solvers.relu.ranges import close_count
from solvers.shrink import shrink

ITERATIONS = 2000
CHECK_EVERY = 20
OVERRELAX = 1.6
SHRUNK = (1.0, 1 - 1e-9, 1 - 1e-7, 1 - 1e-5, 1 - 1e-3, 0.97, 0.8, 0.0)  # phi* is +inf beyond the slope of a linear cost
PATIENCE = 0.02  # of what is missing to the cutoff: a check that gains less ends the node


class Walk(NamedTuple):
    """Where the iteration stands: copies z and V, their scaled multipliers, and the penalty."""

    z: Array
    V: Array
    z_multiplier: Array
    V_multiplier: Array
    penalty: float


class NodePoint(NamedTuple):
    """weights (d, o) with exact zeros; the best dual point met, its bound, and where to go on from."""

    weights: Array
    dual: Array
    bound: float
    walk: Walk


@final
class NodeSolver:
    """One problem's factorised splitting."""

    def __init__(self, problem: LayerProblem) -> None:
        self.problem, X = problem, problem.X
        own = np.array([max(float(np.linalg.norm(X[:, m], 2)), 0.0) for m in problem.members])
        self.metric = np.where(own > 0, own, float(np.max(own)) or 1.0) ** 2  # (p,) penalty of V = W, against z = X W
        self._metric = self.metric[problem.labels][:, None]
        self._factor = cho_factor(X.T @ X + np.diag(self._metric[:, 0]))

    def start(self, weights: Array) -> Walk:
        z = self.problem.X @ weights
        return Walk(z, weights, np.zeros_like(z), np.zeros_like(weights), 1.0)

    def solve(
        self,
        states: NDArray[np.int8],
        signs: Signs,
        ranges: tuple[Array, Array],
        walk: Walk,
        *,
        strict: bool = True,
        cutoff: float = np.inf,
        tolerance: float = 1e-7,
        deadline: float = np.inf,
    ) -> NodePoint:
        """Stops where the bound passes `cutoff`, where it no longer climbs towards a finite cutoff, at the relative
        residual `tolerance`, after 2000 iterations, or at `deadline` (perf_counter)."""
        problem, X = self.problem, self.problem.X
        closed = close_count(problem, states)
        pieces = split(problem.targets2d, *ranges, signs, strict)
        z, V, nu, mu, penalty = walk
        best, best_dual = -np.inf, np.zeros_like(z)
        for iteration in range(1, ITERATIONS + 1):
            W = cho_solve(self._factor, X.T @ (z + nu) + self._metric * (V + mu))
            predictions = X @ W
            z_mixed = OVERRELAX * predictions + (1 - OVERRELAX) * z
            V_mixed = OVERRELAX * W + (1 - OVERRELAX) * V
            z_old, V_old = z, V
            z, V = pieces.prox(z_mixed - nu, penalty), self._prox(closed, V_mixed - mu, penalty)
            nu, mu = nu + z - z_mixed, mu + V - V_mixed
            if iteration % CHECK_EVERY:
                continue
            for shrunk in SHRUNK:
                dual = -shrunk * penalty * nu
                found = relu_dual_value(problem, dual, states, signs, *ranges)
                if np.isfinite(found.value):
                    break
            gain = found.value - found.error - best
            if gain > 0:
                best, best_dual = found.value - found.error, dual
            apart = np.sum((predictions - z) ** 2) + np.sum(self._metric * (W - V) ** 2)
            moved = np.sum((z - z_old) ** 2) + np.sum(self._metric * (V - V_old) ** 2)
            size = max(float(np.sum(predictions**2) + np.sum(problem.targets2d**2)), 1e-300)
            settled = np.sqrt(max(apart, moved) / size) <= tolerance
            hopeless = np.isfinite(cutoff) and np.isfinite(best) and gain <= PATIENCE * (cutoff - best)
            if (
                best >= cutoff
                or settled
                or (hopeless and iteration >= 3 * CHECK_EVERY)
                or time.perf_counter() > deadline
            ):
                break
            if apart > 25 * moved and penalty < 1e6:  # the penalty follows the larger residual
                penalty, nu, mu = 2 * penalty, nu / 2, mu / 2
            elif moved > 25 * apart and penalty > 1e-6:
                penalty, nu, mu = penalty / 2, nu * 2, mu * 2
        return NodePoint(V, best_dual, best, Walk(z, V, nu, mu, penalty))

    def _prox(self, states: NDArray[np.int8], v: Array, penalty: float) -> Array:
        problem = self.problem
        vectors, steps = problem.gather(v), problem.strength / (penalty * self.metric)
        result = np.zeros_like(vectors)
        free, on = states == FREE, states == ON
        if np.any(free):
            result[free] = problem.regulariser.prox(vectors[free], steps[free])
        if np.any(on):
            result[on] = shrink(problem.regulariser, vectors[on], steps[on])
        return problem.scatter(result)
