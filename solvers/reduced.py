"""The problem after one QR factorisation: everything the iterations need, its size independent of the sample count.

With X = Q R and T = Q'Y:  ||X W - Y||^2 = ||R W - T||^2 + rest,  rest = ||Y - Q T||^2, which no W changes.
Residuals of R, not the Gram matrix, so that small losses keep their digits. Any other loss needs every sample: R = X,
T = Y, rest = 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from perspective.errors import InputError
from solvers.losses import BY_NAME, Loss
from solvers.problem import Array, LayerProblem, Regulariser


class Slope(NamedTuple):
    """The loss at some weights: its value, half its gradient (d, o), and scale -> -L*(scale U) at its gradient U."""

    value: float
    half: Array
    below: Callable[[float], float]


@dataclass(frozen=True, eq=False)
@final
class Reduced:
    """R (k, d) and T (k, o), k = min(samples, d); `curvature` (p,) with half the Hessian <= blockdiag(curvature_j I).

    `explained` is Q T, the projection of the targets on the inputs' range, shape (samples, o). `loss` is the problem's,
    or the smoothed one that stands for it in a multiplier step (then `curvature` belongs to that one).
    """

    problem: LayerProblem
    R: Array
    T: Array
    rest: float
    explained: Array
    curvature: Array
    loss: Loss

    @property
    def squared(self) -> bool:
        return self.loss.name == "squared"

    @property
    def regulariser(self) -> Regulariser:
        return self.problem.regulariser

    def gradient_half(self, weights: Array) -> tuple[Array, Array]:
        """Half of dL/dP, the residual R W - T where the loss is squared, and half the loss gradient R' of that."""
        if not self.squared:
            slope = 0.5 * self.loss.gradient(self.R @ weights, self.T)
            return slope, self.R.T @ slope
        residual = self.R @ weights - self.T
        return residual, self.R.T @ residual

    def linearise(self, weights: Array) -> Slope:
        """The loss, its slope, and what its dual point is worth, at the weights (d, o)."""
        if not self.squared:
            predictions = self.R @ weights
            U = self.loss.gradient(predictions, self.T)
            value = self.loss.value(predictions, self.T)
            return Slope(value, 0.5 * (self.R.T @ U), lambda scale: -self.loss.conjugate(scale * U, self.T)[0])
        residual, half = self.gradient_half(weights)
        squares, products = float(np.sum(residual**2)), float(np.sum(residual * self.T))
        rest = self.rest
        return Slope(squares + rest, half, lambda scale: rest - scale**2 * squares - 2 * scale * products)

    def half_hessian(self, weights: Array, rows: NDArray[np.intp], outputs: NDArray[np.intp]) -> Array:
        """Half the loss's second derivative in the entries (rows_i, outputs_i) of the weights, (m, m)."""
        same = outputs[:, None] == outputs[None, :]
        if self.squared:
            return (self.R.T @ self.R)[np.ix_(rows, rows)] * same
        bend = 0.5 * self.loss.second(self.R @ weights, self.T)
        columns = self.R[:, rows]
        return (columns * bend[:, outputs]).T @ columns * same

    def dual_point(self, weights: Array, scale: float) -> Array:
        """U = 2 [scale (X W - Q T) - (Y - Q T)] (samples, o): the loss gradient, its part in X's range multiplied.

        Any loss but the squared one: the whole loss gradient multiplied.
        """
        if not self.squared:
            return scale * self.loss.gradient(self.R @ weights, self.T)
        problem = self.problem
        outside = problem.targets2d - self.explained
        return 2 * (scale * (problem.X @ weights - self.explained) - outside)

    def zero(self) -> Array:
        return np.zeros((self.R.shape[1], self.T.shape[1]))


def reduce(problem: LayerProblem) -> Reduced:
    """Factorise once. InputError where the loss is not convex: everything that starts here is convex inside."""
    X, Y, loss = problem.X, problem.targets2d, BY_NAME[problem.loss]
    if not loss.convex:
        raise InputError(f"the {loss.name} loss is not convex; solve the exact program with backend='highs'")
    if loss.name != "squared":
        steepest = loss.steepest if loss.smooth else 2.0
        return Reduced(problem, X, Y, 0.0, Y, _curvatures(problem, X) * (0.5 * steepest), loss)
    if X.shape[0] > X.shape[1]:
        Q, R = np.linalg.qr(X)
        T = Q.T @ Y
        explained = Q @ T
        rest = float(np.sum((Y - explained) ** 2))
    else:
        R, T, explained, rest = X, Y, Y, 0.0
    return Reduced(problem, R, T, rest, explained, _curvatures(problem, R), loss)


def _curvatures(problem: LayerProblem, R: Array) -> Array:
    """Per-group numbers c_j with R'R <= blockdiag(c_j I): each block's own largest eigenvalue, times one common factor.

    Groups of very different scale thus get steps of their own. Zero columns get a harmless positive number.
    """
    own = np.array([np.linalg.norm(R[:, m], 2) ** 2 for m in problem.members])
    own = np.where(own > 0, own, 1e-8 * float(np.max(own)) or 1.0)
    scaled = R / np.sqrt(own)[problem.labels]
    common = float(np.linalg.norm(scaled, 2)) ** 2
    return own * max(common, 1.0) * (1 + 1e-10)
