"""The problem after one QR factorisation: everything the iterations need, its size independent of the sample count.

With X = Q R and T = Q'Y:  ||X W - Y||^2 = ||R W - T||^2 + rest,  rest = ||Y - Q T||^2, which no W changes.
Residuals of R, not the Gram matrix, so that small losses keep their digits.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from solvers.problem import Array, LayerProblem, Regulariser


@dataclass(frozen=True, eq=False)
@final
class Reduced:
    """R (k, d) and T (k, o), k = min(samples, d); `curvature` (p,) with R'R <= blockdiag(curvature_j I).

    `explained` is Q T, the projection of the targets on the inputs' range, shape (samples, o).
    """

    problem: LayerProblem
    R: Array
    T: Array
    rest: float
    explained: Array
    curvature: Array

    @property
    def regulariser(self) -> Regulariser:
        return self.problem.regulariser

    def gradient_half(self, weights: Array) -> tuple[Array, Array]:
        """Residual R W - T and half the loss gradient R'(R W - T)."""
        residual = self.R @ weights - self.T
        return residual, self.R.T @ residual

    def dual_point(self, weights: Array, scale: float) -> Array:
        """U = 2 [scale (X W - Q T) - (Y - Q T)] (samples, o): the loss gradient, its part in X's range multiplied."""
        problem = self.problem
        outside = problem.targets2d - self.explained
        return 2 * (scale * (problem.X @ weights - self.explained) - outside)

    def zero(self) -> Array:
        return np.zeros((self.R.shape[1], self.T.shape[1]))


def reduce(problem: LayerProblem) -> Reduced:
    """Factorise once."""
    X, Y = problem.X, problem.targets2d
    if X.shape[0] > X.shape[1]:
        Q, R = np.linalg.qr(X)
        T = Q.T @ Y
        explained = Q @ T
        rest = float(np.sum((Y - explained) ** 2))
    else:
        R, T, explained, rest = X, Y, Y, 0.0
    return Reduced(problem, R, T, rest, explained, _curvatures(problem, R))


def _curvatures(problem: LayerProblem, R: Array) -> Array:
    """Per-group numbers c_j with R'R <= blockdiag(c_j I): each block's own largest eigenvalue, times one common factor.

    Groups of very different scale thus get steps of their own. Zero columns get a harmless positive number.
    """
    own = np.array([np.linalg.norm(R[:, m], 2) ** 2 for m in problem.members])
    own = np.where(own > 0, own, 1e-8 * float(np.max(own)) or 1.0)
    scaled = R / np.sqrt(own)[problem.labels]
    common = float(np.linalg.norm(scaled, 2)) ** 2
    return own * max(common, 1.0) * (1 + 1e-10)
