"""L(P) = sum log(1 + exp(-Y P)), Y = +-1;  with t = -Y U in [0, 1]: L*(U) = sum t log t + (1 - t) log(1 - t)."""

from types import ModuleType
from typing import Any, ClassVar, final

import numpy as np
from scipy.special import expit, xlog1py, xlogy

from solvers.losses.loss import Array, Loss, signs_only


@final
class Logistic(Loss):
    """Negative log-likelihood of two classes."""

    name: ClassVar[str] = "logistic"
    steepest: ClassVar[float] = 0.25

    def check(self, targets: Array) -> None:
        signs_only(self.name, targets)

    def value(self, P: Array, Y: Array) -> float:
        return float(np.sum(np.logaddexp(0.0, -Y * P)))

    def gradient(self, P: Array, Y: Array) -> Array:
        return -Y * expit(-Y * P)

    def second(self, P: Array, Y: Array) -> Array:
        return expit(P) * expit(-P)

    def conjugate(self, U: Array, Y: Array) -> tuple[float, float]:
        t = -Y * U
        if not np.all((t >= 0) & (t <= 1)):
            return np.inf, np.inf
        terms = xlogy(t, t) + xlog1py(1 - t, -t)
        return float(np.sum(terms)), float(-np.sum(terms))  # every term is <= 0

    def project(self, U: Array, Y: Array) -> Array:
        return -Y * np.clip(-Y * U, 0.0, 1.0)

    def express(self, cp: ModuleType, P: Any, Y: Array) -> Any:
        return cp.sum(cp.logistic(-cp.multiply(Y, P)))
