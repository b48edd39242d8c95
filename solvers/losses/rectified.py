"""L(P) = sum (max(0, P) - Y)^2, squared loss behind a ReLU: not convex where Y > 0.

L*(U) = sum max(0, Y + U/2)^2 - Y^2 on U >= 0: the maximum over P >= 0, since P < 0 only pays where U = 0. Fenchel's
inequality needs no convexity, so every dual point bounds this loss too; what it bounds is the convex hull's value.
"""

from typing import ClassVar, final

import numpy as np

from solvers.losses.loss import Array, Loss


@final
class Rectified(Loss):
    """The exact program only; `express` refuses."""

    name: ClassVar[str] = "relu"
    convex: ClassVar[bool] = False
    smooth: ClassVar[bool] = False

    def value(self, P: Array, Y: Array) -> float:
        return float(np.sum((np.maximum(0.0, P) - Y) ** 2))

    def gradient(self, P: Array, Y: Array) -> Array:
        return np.where(P > 0, 2 * (P - Y), 0.0)

    def second(self, P: Array, Y: Array) -> Array:
        return np.where(P > 0, 2.0, 0.0)

    def conjugate(self, U: Array, Y: Array) -> tuple[float, float]:
        if not np.all(U >= 0):
            return np.inf, np.inf
        squares, targets = np.maximum(0.0, Y + 0.5 * U) ** 2, Y**2
        return float(np.sum(squares - targets)), float(np.sum(squares + targets))

    def project(self, U: Array, Y: Array) -> Array:
        return np.maximum(U, 0.0)
