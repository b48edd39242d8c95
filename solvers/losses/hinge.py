"""L(P) = sum max(0, 1 - Y P), Y = +-1;  with t = -Y U in [0, 1]: L*(U) = -sum t."""

from types import ModuleType
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from solvers.losses.loss import Array, NonsmoothLoss, signs_only


@final
class Hinge(NonsmoothLoss):
    """The support vector machine's loss."""

    name: ClassVar[str] = "hinge"

    def check(self, targets: Array) -> None:
        signs_only(self.name, targets)

    def value(self, P: Array, Y: Array) -> float:
        return float(np.sum(np.maximum(0.0, 1 - Y * P)))

    def gradient(self, P: Array, Y: Array) -> Array:
        return np.where(Y * P < 1, -Y, 0.0)

    def conjugate(self, U: Array, Y: Array) -> tuple[float, float]:
        t = -Y * U
        if not np.all((t >= 0) & (t <= 1)):
            return np.inf, np.inf
        total = float(np.sum(t))
        return -total, total

    def project(self, U: Array, Y: Array) -> Array:
        return -Y * np.clip(-Y * U, 0.0, 1.0)

    def dual_step(self, V: Array, Y: Array, sigma: float) -> tuple[Array, NDArray[np.bool_]]:
        """t = sigma - Y V cut at 0 and 1."""
        moved = sigma - Y * V
        return -Y * np.clip(moved, 0.0, 1.0), (moved > 0) & (moved < 1)

    def express(self, cp: ModuleType, P: Any, Y: Array) -> Any:
        return cp.sum(cp.pos(1 - cp.multiply(Y, P)))
