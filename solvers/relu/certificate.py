"""What proves a bound of a ReLU layer: leaves that cover every choice of groups and of activation signs, one dual point each.

For U of the predictions' shape and a leaf that fixes groups (off, on) and signs of predictions (>= 0, <= 0), duality gives

    value >= sum_io min over z in Z_io of [ (max(0, z) - Y_io)^2 - U_io z ] - strength * sum_j h*(z_j),  z_j = -X_j'U / strength

Z_io is what the sign leaves of the range that `relu_ranges` derives for points with an objective of at most the bound
itself: a point outside is no better than the bound, so nothing is lost. h* as in `dual.py`. No convexity is needed, no
solver's word is taken, and the minimum over z is one of four numbers.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from perspective.errors import CheckFailed
from solvers.dual import EPS, FREE, OFF, ON, ROUNDING, DualValue, counted_sum, group_terms, plain
from solvers.problem import Array, LayerProblem
from solvers.relu.loss import Signs, least_tilted, relu_loss
from solvers.relu.ranges import Ranges
from solvers.result import covers


@dataclass(frozen=True, eq=False)
@final
class ReluLeaf:
    """Groups fixed to 0 and to 1, predictions (number i * outputs + o) fixed >= 0 and <= 0, and the dual point U."""

    off: tuple[int, ...]
    on: tuple[int, ...]
    active: tuple[int, ...]
    inactive: tuple[int, ...]
    dual: Array

    def states(self, n_groups: int) -> NDArray[np.int8]:
        return _marked(n_groups, self.off, self.on)

    def signs(self, shape: tuple[int, ...]) -> Signs:
        return _marked(int(np.prod(shape)), self.inactive, self.active).reshape(shape)


@dataclass(frozen=True, eq=False)
@final
class ReluCertificate:
    """A proof that no point of a ReLU layer is below `bound`."""

    bound: float
    leaves: tuple[ReluLeaf, ...]

    def check(self, problem: LayerProblem) -> None:
        """Recompute cover, ranges and bound from scratch in numpy; raises CheckFailed naming what does not hold."""
        if problem.loss != "relu":
            raise CheckFailed(f"the certificate is for the loss 'relu', the problem's loss is {problem.loss!r}")
        if not np.isfinite(self.bound):
            raise CheckFailed(f"the certificate's bound is {self.bound}")
        p, shape = problem.n_groups, problem.targets2d.shape
        for leaf in self.leaves:
            if not isinstance(leaf, ReluLeaf) or not plain(leaf.dual, shape):
                raise CheckFailed(f"the certificate's dual point must be finite, of the predictions' shape {shape}")
            for fixed, most in ((leaf.off + leaf.on, p), (leaf.active + leaf.inactive, int(np.prod(shape)))):
                if len(set(fixed)) != len(fixed) or any(not 0 <= j < most for j in fixed):
                    raise CheckFailed("a leaf of the certificate fixes something twice or that does not exist")
        if not covers((_mask(leaf.off, leaf.inactive, p), _mask(leaf.on, leaf.active, p)) for leaf in self.leaves):
            raise CheckFailed("the certificate's leaves do not cover every choice of groups and signs")
        ranges = Ranges(problem, max(self.bound, 0.0))
        for leaf in self.leaves:
            found = prove(problem, ranges, leaf)
            if not self.bound <= found.value - found.error:
                raise CheckFailed(f"the certificate claims {self.bound!r}, a dual point proves {found.value!r}")


def certify_relu(problem: LayerProblem, leaves: Iterable[ReluLeaf], cutoff: float) -> ReluCertificate:
    """The certificate of the leaves: the least bound they prove for points up to `cutoff`, or the cutoff.

    Ranges for the bound itself are no wider, so `check` finds no less; twice the rounding error is left as room.
    """
    kept = tuple(leaves)
    ranges = Ranges(problem, cutoff)
    found = [prove(problem, ranges, leaf) for leaf in kept]
    return ReluCertificate(min(cutoff, *(v.value - 2 * v.error for v in found)), kept)


def prove(problem: LayerProblem, ranges: Ranges, leaf: ReluLeaf) -> DualValue:
    """The dual value of a leaf."""
    states = leaf.states(problem.n_groups)
    low, high = ranges.of(states)
    return relu_dual_value(problem, leaf.dual, states, leaf.signs(problem.targets2d.shape), low, high)


def relu_dual_value(
    problem: LayerProblem, dual: Array, states: NDArray[np.int8], signs: Signs, low: Array, high: Array
) -> DualValue:
    """The formula above, from the data alone; +inf where a leaf leaves no point at all."""
    X, Y, strength = problem.X, problem.targets2d, problem.strength
    if problem.at_most is not None and np.count_nonzero(states == ON) > problem.at_most:
        return DualValue(np.inf, 0.0)
    tilted = least_tilted(Y, low, high, signs, dual)
    if np.any(np.isposinf(tilted)):
        return DualValue(np.inf, 0.0)
    z = np.abs(X.T @ dual) / strength
    z += (2 * EPS * (len(X) + 4) / strength) * (np.abs(X).T @ np.abs(dual))
    vectors = problem.gather(z)
    terms, magnitudes = group_terms(problem.regulariser, vectors, states, "perspective")
    value = float(np.sum(tilted)) - strength * counted_sum(problem, vectors, terms, states)
    # each minimum is a loss minus a product, both at most of this size
    size = np.sum(relu_loss(high, Y) + Y**2 + np.abs(dual) * np.maximum(-low, high)) + strength * np.sum(magnitudes)
    if not np.isfinite(value):
        return DualValue(-np.inf, 0.0)
    return DualValue(value, float(ROUNDING * size))


def _marked(n: int, off: tuple[int, ...], on: tuple[int, ...]) -> NDArray[np.int8]:
    marks = np.full(n, FREE, dtype=np.int8)
    marks[list(off)] = OFF
    marks[list(on)] = ON
    return marks


def _mask(groups: tuple[int, ...], predictions: tuple[int, ...], n_groups: int) -> int:
    return sum(1 << int(j) for j in groups) + sum(1 << (n_groups + int(i)) for i in predictions)
