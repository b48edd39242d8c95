"""L(P) = sum (P - Y)^2;  L*(U) = ||U||^2 / 4 + <U, Y>."""

from types import ModuleType
from typing import Any, ClassVar, final

import numpy as np

from solvers.losses.loss import Array, Loss


@final
class Squared(Loss):
    """The plain sum of squares."""

    name: ClassVar[str] = "squared"
    steepest: ClassVar[float] = 2.0

    def value(self, P: Array, Y: Array) -> float:
        return float(np.sum((P - Y) ** 2))

    def gradient(self, P: Array, Y: Array) -> Array:
        return 2 * (P - Y)

    def second(self, P: Array, Y: Array) -> Array:
        return np.full_like(P, 2.0)

    def conjugate(self, U: Array, Y: Array) -> tuple[float, float]:
        quarter, products = 0.25 * np.sum(U**2), U * Y
        return float(quarter + np.sum(products)), float(quarter + np.sum(np.abs(products)))

    def project(self, U: Array, Y: Array) -> Array:
        return U

    def express(self, cp: ModuleType, P: Any, Y: Array) -> Any:
        return cp.sum_squares(P - Y)
