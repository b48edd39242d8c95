"""The Moreau envelope of a loss with kinks, centred at a dual point C: what one multiplier step minimises.

    e(P) = max over U of <U, P> - L*(U) - ||U - C||^2 / (2 sigma)

Its gradient is the maximiser U, which lies in the domain of L* by construction; its conjugate is
L*(U) + ||U - C||^2 / (2 sigma). Rockafellar 1976: repeating with C = U maximises the dual, sigma need not grow.
"""

from typing import ClassVar, final

import numpy as np

from solvers.losses.loss import Array, Loss, NonsmoothLoss


@final
class Smoothed(Loss):
    """Made anew for each multiplier step."""

    name: ClassVar[str] = "smoothed"

    def __init__(self, loss: NonsmoothLoss, centre: Array, sigma: float) -> None:
        self.loss, self.centre, self.sigma = loss, centre, sigma

    def value(self, P: Array, Y: Array) -> float:
        U = self.gradient(P, Y)
        return float(np.sum(U * P)) - self.conjugate(U, Y)[0]

    def gradient(self, P: Array, Y: Array) -> Array:
        return self.loss.dual_step(self.centre + self.sigma * P, Y, self.sigma)[0]

    def second(self, P: Array, Y: Array) -> Array:
        inside = self.loss.dual_step(self.centre + self.sigma * P, Y, self.sigma)[1]
        return np.where(inside, self.sigma, 0.0)

    def conjugate(self, U: Array, Y: Array) -> tuple[float, float]:
        value, size = self.loss.conjugate(U, Y)
        away = float(np.sum((U - self.centre) ** 2)) / (2 * self.sigma)
        return value + away, size + away

    def project(self, U: Array, Y: Array) -> Array:
        return self.loss.project(U, Y)
