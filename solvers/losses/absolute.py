"""L(P) = sum |P - Y|;  L*(U) = <U, Y> on |U| <= 1."""

from types import ModuleType
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from solvers.losses.loss import Array, NonsmoothLoss


@final
class Absolute(NonsmoothLoss):
    """Least absolute deviations."""

    name: ClassVar[str] = "absolute"

    def value(self, P: Array, Y: Array) -> float:
        return float(np.sum(np.abs(P - Y)))

    def gradient(self, P: Array, Y: Array) -> Array:
        return np.sign(P - Y)

    def conjugate(self, U: Array, Y: Array) -> tuple[float, float]:
        if not np.all(np.abs(U) <= 1):
            return np.inf, np.inf
        products = U * Y
        return float(np.sum(products)), float(np.sum(np.abs(products)))

    def project(self, U: Array, Y: Array) -> Array:
        return np.clip(U, -1.0, 1.0)

    def dual_step(self, V: Array, Y: Array, sigma: float) -> tuple[Array, NDArray[np.bool_]]:
        """V - sigma Y, cut at -1 and 1."""
        moved = V - sigma * Y
        return np.clip(moved, -1.0, 1.0), np.abs(moved) < 1

    def express(self, cp: ModuleType, P: Any, Y: Array) -> Any:
        return cp.sum(cp.abs(P - Y))
