"""Any point -> a rigorous lower bound, through conjugates only: no solver's word is taken.

For U of the predictions' shape and the part of the program with some groups fixed off or on (Fenchel duality):

    value >= -||U||^2/4 - <U, Y> - strength * sum_j h*(z_j),   z_j = -X_j' U / strength
    h* = 0 (off),  sum_k phi*(z_jk) - price (on),  max(0, the same) (free: the perspective's convex hull)

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
ROUNDING = 1e-12  # stated slack, relative to the sum of the magnitudes of all terms added
EPS = float(np.finfo(np.float64).eps)


class DualValue(NamedTuple):
    """A lower bound is value - error; error covers the rounding of the sums."""

    value: float
    error: float


def dual_value(
    problem: LayerProblem, dual: Array, states: NDArray[np.int8], relaxation: Relaxation = "perspective"
) -> DualValue:
    """Dual value of U (samples, outputs) where states (p,) fix groups OFF, ON or leave them FREE, from the data alone."""
    X, Y, strength = problem.X, problem.targets2d, problem.strength
    z = np.abs(X.T @ dual) / strength
    z += (2 * EPS * (len(X) + 4) / strength) * (np.abs(X).T @ np.abs(dual))
    quarter, products = 0.25 * np.sum(dual**2), dual * Y
    value, size = -quarter - np.sum(products), quarter + np.sum(np.abs(products))
    terms, magnitudes = group_terms(problem.regulariser, problem.gather(z), states, relaxation)
    value -= strength * np.sum(terms)
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
