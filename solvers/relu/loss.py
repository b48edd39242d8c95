"""The squared loss behind a ReLU, one prediction z at a time: l(z) = (max(0, z) - Y)^2, its convex pieces and its envelope.

For Y <= 0 it is convex. For Y > 0 it is the smaller of two convex functions, which is why one binary d a sample suffices:
    d = 1 (active):    (z - Y)^2                d = 0 (inactive):  Y^2 + max(0, z)^2
The larger of the two on the wrong side of 0, the true loss on the right side. Without the binary, on low <= z <= high,
the convex envelope is a line from (low, Y^2) that touches the parabola at t = low + sqrt(low (low - 2 Y)), then the
parabola; the chord where t lies beyond high.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from solvers.dual import OFF, ON
from solvers.problem import Array

Signs = NDArray[np.int8]  # (samples, outputs): ON where z >= 0, OFF where z <= 0, FREE where either


def relu_loss(predictions: Array, targets: Array) -> Array:
    """(max(0, z) - Y)^2 elementwise."""
    return (np.maximum(predictions, 0.0) - targets) ** 2


@dataclass(frozen=True, eq=False)
@final
class Pieces:
    """Convex f on [low, high]: f = constant + slope (z - knot) up to the knot, then the parabola (z - center)^2 + shift.

    All arrays (samples, outputs). The two parts meet at the knot, where the slope does not fall.
    """

    low: Array
    high: Array
    knot: Array
    slope: Array
    center: Array
    constant: Array

    def value(self, z: Array) -> Array:
        """f(z), the range not checked."""
        right = (z - self.center) ** 2 - (self.knot - self.center) ** 2
        return self.constant + np.where(z <= self.knot, self.slope * (z - self.knot), right)

    def prox(self, x: Array, weight: float) -> Array:
        """argmin over [low, high] of f(z) + weight / 2 (z - x)^2: in one dimension the free minimiser, cut off."""
        line = x - self.slope / weight
        parabola = (weight * x + 2 * self.center) / (weight + 2)
        free = np.where(line <= self.knot, line, np.maximum(self.knot, parabola))
        return np.clip(free, self.low, self.high)


def split(targets: Array, low: Array, high: Array, signs: Signs, strict: bool = True) -> Pieces:
    """The pieces of l where signs leave one side, of its envelope on [low, high] (low <= 0 <= high) where they do not.

    strict: the fixed sign also bounds z. Without it a fixed sign keeps its convex function on the whole range, so that a
    descent can walk through 0.
    """
    positive = targets > 0
    on, off = positive & (signs == ON), positive & (signs == OFF)
    free = positive & ~on & ~off
    center = np.where(off, 0.0, targets)
    # below the knot: nothing to lose (convex targets, inactive), nothing at all (active), the line (free)
    touch = np.where(free, low + np.sqrt(low * (low - 2 * np.where(free, targets, 0.0))), 0.0)
    width = np.where(high > low, high - low, 1.0)
    chord = np.where(high > low, ((high - targets) ** 2 - targets**2) / width, 0.0)
    beyond = touch >= high
    knot = np.select([on, free & beyond, free], [low, high, touch], 0.0)
    slope = np.select([on, free & beyond, free], [2 * (low - targets), chord, 2 * (touch - targets)], 0.0)
    start = np.where(on, (low - targets) ** 2, targets**2)
    constant = start + np.where(free, slope * (knot - low), 0.0)
    if strict:
        low, high = np.where(on, np.maximum(low, 0.0), low), np.where(off, np.minimum(high, 0.0), high)
        knot = np.where(on, low, knot)
        constant = np.where(on, (low - targets) ** 2, constant)
        slope = np.where(on, 2 * (low - targets), slope)
    return Pieces(low, high, knot, slope, center, constant)


def least_tilted(targets: Array, low: Array, high: Array, signs: Signs, dual: Array) -> Array:
    """min over z in [low, high], on the side the signs leave, of l(z) - U z, exactly: minus the conjugate of l there.

    Linear for z <= 0 and a parabola for z >= 0, so the minimum is at an end, at 0, or at Y + U/2 cut off: four numbers.
    Signs count for every target here. +inf where no z is left.
    """
    low, high = np.where(signs == ON, np.maximum(low, 0.0), low), np.where(signs == OFF, np.minimum(high, 0.0), high)
    stationary = np.maximum(targets + 0.5 * dual, 0.0)
    candidates = (low, high, np.zeros_like(low), stationary)
    values = [relu_loss(z, targets) - dual * z for z in (np.clip(c, low, np.maximum(low, high)) for c in candidates)]
    return np.where(low > high, np.inf, np.min(values, axis=0))
