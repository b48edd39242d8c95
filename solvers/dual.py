"""Any point -> a rigorous lower bound, through conjugates only: no solver's word is taken.

For U of the predictions' shape and the part of the program with some groups fixed off or on (Fenchel duality):

    value >= -L*(U) - strength * sum_j h*(z_j),   z_j = -X_j' U / strength;   squared loss: L*(U) = ||U||^2/4 + <U, Y>
    h* = 0 (off),  sum_k phi*(z_jk) - price (on),  max(0, the same) (free: the perspective's convex hull)

With at most k groups the free ones share what the groups that are on leave: the sum of their k - #on largest h*.

For the big-M relaxation a free group's h*(z) = sum_k phi*(min(|z_k|, theta)), theta the level at which the excess
sum_k (|z_k| - theta)+ is price / M: conjugate of phi + (price/M) ||.||_inf, an infimal convolution with an l1 ball.
The box is part of phi. Rounding of X'U is covered by evaluating phi*, which grows with |z|, at |z| plus its error bound.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.problem import Array, LayerProblem, Regulariser

Relaxation = Literal["perspective", "big_m"]
FREE, OFF, ON = 0, -1, 1
GOLDEN = 40  # sections: nine digits of the width they start from
ROUNDING = 1e-12  # stated slack, relative to the sum of the magnitudes of all terms added
EPS = float(np.finfo(np.float64).eps)


def plain(array: object, shape: tuple[int, ...]) -> bool:
    """Whether it is a float64 array of the shape, finite: other kinds calculate by other rules (wrap, round, i * i = -1)."""
    if type(array) is not np.ndarray or array.dtype != np.float64:
        return False
    return array.shape == shape and bool(np.all(np.isfinite(array)))


class DualValue(NamedTuple):
    """A lower bound is value - error; error covers the rounding of the sums."""

    value: float
    error: float


def dual_value(
    problem: LayerProblem, dual: Array, states: NDArray[np.int8], relaxation: Relaxation = "perspective"
) -> DualValue:
    """Dual value of U (samples, outputs) where states (p,) fix groups OFF, ON or leave them FREE, from the data alone.

    +inf where more groups are on than the problem allows: there is no such point.
    """
    X, Y, strength = problem.X, problem.targets2d, problem.strength
    if problem.at_most is not None and np.count_nonzero(states == ON) > problem.at_most:
        return DualValue(np.inf, 0.0)
    z = np.abs(X.T @ dual) / strength
    z += (2 * EPS * (len(X) + 4) / strength) * (np.abs(X).T @ np.abs(dual))
    conjugate, size = problem.measure.conjugate(dual, Y)
    if not np.isfinite(conjugate):
        return DualValue(-np.inf, 0.0)
    vectors = problem.gather(z)
    terms, magnitudes = group_terms(problem.regulariser, vectors, states, relaxation)
    value = -conjugate - strength * counted_sum(problem, vectors, terms, states, relaxation)
    size += strength * np.sum(magnitudes)
    if not np.isfinite(value):
        return DualValue(-np.inf, 0.0)
    return DualValue(float(value), float(ROUNDING * size))


def group_terms(
    regulariser: Regulariser, z: Array, states: NDArray[np.int8], relaxation: Relaxation
) -> tuple[Array, Array]:
    """h*(z_j) of each row of |z| (g, n) and the magnitude of what was added up for it, both (g,)."""
    price = regulariser.price
    sums = np.sum(regulariser.cost_conjugate(z), axis=1)
    if relaxation == "perspective":
        free = np.maximum(sums - price, 0.0)
        # a sum clearly below the price gives an exact zero, whatever its rounding
        size = np.where(sums < (1 - 1e-6) * price, 0.0, sums + price)
    else:
        radius = 0.0 if regulariser.bound is None else price / regulariser.bound
        free = size = np.sum(regulariser.cost_conjugate(water_level(z, radius)), axis=1)
    fixed, nothing = [states == OFF, states == ON], np.zeros(len(z))
    return np.select(fixed, [nothing, sums - price], free), np.select(fixed, [nothing, sums + price], size)


def counted_sum(
    problem: LayerProblem, z: Array, terms: Array, states: NDArray[np.int8], relaxation: Relaxation = "perspective"
) -> float:
    """The sum of the groups' terms (p,), or where a count holds the least upper bound on it that the count allows."""
    if problem.at_most is None:
        return float(np.sum(terms))
    free, room = states == FREE, problem.at_most - int(np.count_nonzero(states == ON))
    fixed = float(np.sum(terms[~free]))
    if np.count_nonzero(free) <= room:
        return fixed + float(np.sum(terms[free]))
    if relaxation == "perspective":
        return fixed + float(np.sum(np.sort(terms[free])[::-1][:room]))
    if problem.regulariser.bound is None:  # big-M without a bound: y costs nothing and counts nothing
        return fixed + float(np.sum(terms[free]))
    return fixed + _least_big_m(problem.regulariser, z[free], problem.regulariser.bound, room)


def _least_big_m(regulariser: Regulariser, z: Array, bound: float, room: int) -> float:
    """min over extra >= 0 of sum_j (phi + (price + extra)/M ||.||_inf)*(z_j) + extra * room: convex, any extra is valid."""

    def total(extra: float) -> float:
        level = water_level(z, (regulariser.price + extra) / bound)
        return float(np.sum(regulariser.cost_conjugate(level))) + extra * room

    low, high = 0.0, bound * float(np.max(np.sum(z, axis=1), initial=0.0))  # beyond, every z is cut off whole
    plain = total(0.0)
    if total(1e-9 * high) >= plain:  # convex: the count does not bind
        return plain
    golden = (np.sqrt(5.0) - 1) / 2
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = total(left), total(right)
    for _ in range(GOLDEN):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = total(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = total(right)
    return min(plain, at_left, at_right)


def water_level(z: Array, radius: float) -> Array:
    """min(z, theta) by rows of z >= 0, where the cut-off part sums to `radius` (or everything is cut off)."""
    if radius == 0.0:
        return z
    order = -np.sort(-z, axis=1)
    counts = np.arange(1, z.shape[1] + 1)
    levels = (np.cumsum(order, axis=1) - radius) / counts
    # the right count is the largest with its smallest member above the level
    last = np.maximum(np.sum(order > levels, axis=1) - 1, 0)
    theta = np.maximum(np.take_along_axis(levels, last[:, None], axis=1), 0.0)
    # a cut-off part within the ball is feasible, hence valid; lift by the rounding of the cumulative sums
    theta = theta + 4 * EPS * z.shape[1] * order[:, :1]
    return np.minimum(z, theta)


def tighten(
    problem: LayerProblem, dual: Array, states: NDArray[np.int8], relaxation: Relaxation = "perspective"
) -> tuple[Array, DualValue]:
    """The multiple t U with the best dual value (concave in t): golden section on [0, 2], and t just below 1.

    Needed where U is not optimal, and where phi* is +inf beyond a slope that U touches (a linear cost without a box).
    """

    def bound(t: float) -> float:
        found = dual_value(problem, t * dual, states, relaxation)
        return found.value - found.error

    golden = (np.sqrt(5.0) - 1) / 2
    low, high = 0.0, 2.0
    for _ in range(30):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if bound(left) >= bound(right):  # both -inf: the feasible multiples lie to the left
            high = right
        else:
            low = left
    candidates = [1.0, low, *(1.0 - 10.0**k for k in range(-13, -5))]
    best = max(candidates, key=bound)
    return best * dual, dual_value(problem, best * dual, states, relaxation)
