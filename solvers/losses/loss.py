"""What the solvers ask of a loss: a sum over samples and outputs of one function of prediction and target.

Predictions P, targets Y and dual points U all have shape (samples, outputs).
"""

from abc import ABC, abstractmethod
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from perspective.errors import InputError

Array = NDArray[np.float64]


class Loss(ABC):
    """Value, slope and conjugate; `smooth` where the gradient is Lipschitz, `steepest` its constant (of one entry)."""

    name: ClassVar[str]
    smooth: ClassVar[bool] = True
    convex: ClassVar[bool] = True
    steepest: ClassVar[float] = np.inf

    def check(self, targets: Array) -> None:
        """InputError where the targets make no sense with this loss; any real numbers do unless a loss says otherwise."""
        return None

    @abstractmethod
    def value(self, P: Array, Y: Array) -> float:
        """The sum over all entries."""

    @abstractmethod
    def gradient(self, P: Array, Y: Array) -> Array:
        """dL/dP, or a subgradient."""

    @abstractmethod
    def second(self, P: Array, Y: Array) -> Array:
        """Second derivative of each entry (almost everywhere)."""

    @abstractmethod
    def conjugate(self, U: Array, Y: Array) -> tuple[float, float]:
        """(L*(U), sum of the magnitudes added up for it), L* = sup over P of <U, P> - L(P); (inf, inf) outside its domain."""

    @abstractmethod
    def project(self, U: Array, Y: Array) -> Array:
        """The nearest point of the conjugate's domain."""

    def express(self, cp: ModuleType, P: Any, Y: Array) -> Any:
        """The value as a cvxpy expression of the affine predictions P."""
        raise InputError(f"the {self.name} loss is not convex, so no relaxation of it is a cone program")


class NonsmoothLoss(Loss):
    """A loss with kinks: its conjugate is finite on a bounded set only, so a dual step replaces the gradient step."""

    smooth: ClassVar[bool] = False

    @abstractmethod
    def dual_step(self, V: Array, Y: Array, sigma: float) -> tuple[Array, NDArray[np.bool_]]:
        """prox of sigma L* at V, and which entries lie strictly inside the domain (where the step moves with V)."""

    def second(self, P: Array, Y: Array) -> Array:
        return np.zeros_like(P)


def signs_only(name: str, targets: Array) -> None:
    """InputError unless every target is -1 or 1."""
    if not np.all(np.abs(targets) == 1):
        raise InputError(
            f"the {name} loss needs targets -1 or 1; code the two classes so, for instance 2 * (y > 0) - 1"
        )
