"""How large a prediction can get: ranges low <= x_i'w <= high for every point with an objective of at most `cutoff`.

All terms are >= 0, so such a point spends at most B = cutoff / strength - price * (groups kept) on its weights, and
    |x_i'w| <= tau B + tau sum_k phi*(|x_ik| / tau)        for every tau > 0 (Fenchel's inequality, weight by weight);
the box is in phi*, so small tau gives |x_i'w| <= M ||x_i||_1 and a cost that grows needs no box. Some taus are tried: each
one is valid. Above, the loss itself bounds the prediction: (z - Y)^2 <= cutoff. These are the big-M of the activations.
"""

from typing import final

import numpy as np
from numpy.typing import NDArray

from perspective.errors import InputError
from solvers.dual import FREE, OFF, ON
from solvers.problem import Array, LayerProblem

WIDEN = 1 + 1e-9  # covers the rounding of the sums
STEPS = 30  # of tau, four in ten from one to the next


@final
class Ranges:
    """Ranges of one problem for a given cutoff, remembered by the groups that are fixed (they depend on nothing else)."""

    def __init__(self, problem: LayerProblem, cutoff: float) -> None:
        self.problem, self.cutoff = problem, cutoff
        self._known: dict[bytes, tuple[Array, Array]] = {}

    def of(self, states: NDArray[np.int8]) -> tuple[Array, Array]:
        """(low, high), both (samples, outputs), low <= 0 <= high, with groups OFF, ON or FREE."""
        key = states.tobytes()
        if key not in self._known:
            self._known[key] = self._compute(states)
        return self._known[key]

    def _compute(self, states: NDArray[np.int8]) -> tuple[Array, Array]:
        problem, Y = self.problem, self.problem.targets2d
        states = close_count(problem, states)
        kept = max(1, int(np.count_nonzero(states == ON)))
        budget = max(self.cutoff / problem.strength - problem.regulariser.price * kept, 0.0) * WIDEN
        largest = _reach(problem, (states != OFF)[problem.labels], budget)[:, None] * WIDEN
        if not np.all(np.isfinite(largest)):
            raise InputError("the cost bounds no prediction, so the activations have no big-M; declare bound=M")
        high = np.minimum(largest, np.maximum(Y + np.sqrt(self.cutoff) * WIDEN, 0.0))
        return np.broadcast_to(-largest, Y.shape), high


def close_count(problem: LayerProblem, states: NDArray[np.int8]) -> NDArray[np.int8]:
    """The states with every free group OFF where the groups that are on use up `at_most`."""
    if problem.at_most is None or np.count_nonzero(states == ON) < problem.at_most:
        return states
    return np.where(states == FREE, OFF, states).astype(np.int8)


def _reach(problem: LayerProblem, rows: NDArray[np.bool_], budget: float) -> Array:
    """(samples,) the smallest tau B + tau sum_k phi*(|x_ik| / tau) of the taus tried; 0 for a row of zeros.

    The taus depend on data and rows only, never on the budget: a smaller budget never gives a larger reach.
    """
    X, r = np.abs(problem.X[:, rows]), problem.regulariser
    live = np.any(X > 0, axis=1)
    best = np.where(live, np.inf if r.bound is None else r.bound * np.sum(X, axis=1), 0.0)
    size = _typical_weight(problem)
    slope = max(float(r.cost_derivative(size)), float(np.finfo(float).tiny))
    lengths = np.where(live, np.sqrt(np.sum(X**2, axis=1)), 1.0)
    with np.errstate(all="ignore"):
        for factor in np.logspace(-2, 4, STEPS):
            tau = lengths / slope * factor
            found = tau * (budget + np.sum(r.cost_conjugate(X / tau[:, None]), axis=1))
            best = np.where(live & np.isfinite(found), np.minimum(best, found), best)
    return best


def _typical_weight(problem: LayerProblem) -> float:
    """A weight that alone costs about as much as keeping nothing does: at tau = |x| / phi'(size) it attains phi*."""
    cost, low, high = problem.regulariser.cost, 0.0, 1.0
    budget = float(np.sum(problem.targets2d**2)) / problem.strength
    while float(cost(high)) < budget and high < 1e100:
        low, high = high, 4 * high
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if float(cost(middle)) < budget else (low, middle)
    return high if problem.regulariser.bound is None else min(high, problem.regulariser.bound)
