"""One layer as a mixed-integer program: data, groups of input features, the price structure, and its own true value.

    min  L(X W, Y) + strength * sum_j [ sum_k phi(w_jk) + price * y_j ],  w_j = 0 where y_j = 0,  |w_jk| <= M y_j

and, where `at_most` is given, sum_j y_j <= at_most. L is one of the losses in `losses/`, "squared" unless told otherwise.
A group is a set of input features; its vector w_j holds the rows of W of those features, all outputs. (Groups of outputs
would make the program separable, hence trivial.) Every backend's answer is evaluated here again, in float64.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perspective import Regularizer
from perspective.errors import InputError
from solvers.count import share_count
from solvers.losses import BY_NAME, Loss

Array = NDArray[np.float64]
LOSSES = tuple(BY_NAME)
COUNT_SLACK = 1e-11  # relative, for fractional indicators that sum up to the count
LARGEST = 1e120  # of a sum of squares: the conjugates square gradients once more


class Regulariser(Protocol):
    """What the solvers ask of a bound regulariser (`derive(block).bind(...)`): vector and scalar calculus in numpy."""

    @property
    def regularizer(self) -> Regularizer: ...
    @property
    def parameters(self) -> Mapping[str, float]: ...
    @property
    def price(self) -> float: ...
    @property
    def bound(self) -> float | None: ...
    @property
    def quadratic(self) -> tuple[float, float] | None: ...
    def value(self, w: Any) -> Any: ...
    def indicator(self, w: Any) -> Any: ...
    def prox(self, v: Any, step: Any) -> Any: ...
    def cost(self, s: Any) -> Any: ...
    def cost_derivative(self, s: Any) -> Any: ...
    def cost_conjugate(self, z: Any) -> Any: ...


@dataclass(frozen=True, eq=False)
@final
class LayerProblem:
    """A layer's group selection problem.

    inputs      (samples, d) finite
    targets     (samples,) or (samples, outputs) finite
    groups      (d,) integer label of each input feature's group; labels are numbered 0..p-1 in sorted order
    regulariser what `derive(block).bind(...)` returned
    strength    > 0, multiplies the whole bracket
    loss        "squared" sum (XW - Y)^2, "absolute" sum |XW - Y|, "relu" sum (max(0, XW) - Y)^2; for targets -1 and 1
                "logistic" sum log(1 + exp(-Y XW)), "hinge" sum max(0, 1 - Y XW)
    at_most     None, or the largest number of groups that may be kept, 1..p, besides their price
    Weights have shape (d,) or (d, outputs), like the targets. Raises InputError where the data make no sense.
    """

    inputs: ArrayLike
    targets: ArrayLike
    groups: ArrayLike
    regulariser: Regulariser
    strength: float
    loss: str = "squared"
    at_most: int | None = None
    X: Array = field(init=False, repr=False)
    Y: Array = field(init=False, repr=False)
    labels: NDArray[np.intp] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.loss, str) or self.loss not in LOSSES:
            raise InputError(f"unknown loss {self.loss!r}; valid ones: {', '.join(LOSSES)}")
        X, Y = _numbers("inputs", self.inputs), _numbers("targets", self.targets)
        if X.ndim != 2 or 0 in X.shape:
            raise InputError(f"inputs must have shape (samples, features), both positive, not {X.shape}")
        if Y.ndim not in (1, 2) or Y.shape[0] != X.shape[0] or 0 in Y.shape:
            raise InputError(f"targets must have shape ({X.shape[0]},) or ({X.shape[0]}, outputs), not {Y.shape}")
        labels = np.asarray(self.groups)
        if labels.shape != (X.shape[1],):
            raise InputError(f"groups must hold one label per input feature, shape ({X.shape[1]},), not {labels.shape}")
        if labels.dtype.kind not in "iu":
            raise InputError(f"groups must be integers, not {labels.dtype}; cast the labels with .astype(int)")
        try:
            strength = float(self.strength)
        except (TypeError, ValueError) as error:
            raise InputError(f"strength must be one number > 0, not {self.strength!r}") from error
        if not (np.isfinite(strength) and strength > 0):
            raise InputError(f"strength must be finite and > 0, not {strength}")
        if not hasattr(self.regulariser, "cost_conjugate"):
            raise InputError("regulariser must be bound to numbers: pass derive(block).bind(...)")
        block = self.regulariser.regularizer.block
        if block.radial or block.lower is not None:
            raise InputError("a layer takes costs of single weights with a symmetric box; leave out radial and lower")
        numbered = np.unique(labels, return_inverse=True)[1].astype(np.intp)
        BY_NAME[self.loss].check(Y)
        object.__setattr__(self, "at_most", _count(self.at_most, int(numbered.max()) + 1))
        object.__setattr__(self, "strength", strength)
        for name, array in (("X", X), ("Y", Y), ("labels", numbered)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        # keep one copy of the data: the names the caller used show the validated arrays
        object.__setattr__(self, "inputs", self.X)
        object.__setattr__(self, "targets", self.Y)

    @property
    def targets2d(self) -> Array:
        """Targets as (samples, outputs)."""
        return self.Y.reshape(len(self.Y), -1)

    @property
    def measure(self) -> Loss:
        """The loss as an object: value, slope, conjugate."""
        return BY_NAME[self.loss]

    @property
    def n_groups(self) -> int:
        return int(self.labels.max()) + 1

    @cached_property
    def members(self) -> tuple[NDArray[np.intp], ...]:
        """Feature numbers of each group."""
        return tuple(np.flatnonzero(self.labels == j) for j in range(self.n_groups))

    @cached_property
    def slots(self) -> NDArray[np.intp]:
        """(p, largest size) feature numbers of each group, padded by d: groups of any size become rows of one array."""
        most = max(len(m) for m in self.members)
        fill = self.X.shape[1]
        return np.array([[*m, *[fill] * (most - len(m))] for m in self.members], dtype=np.intp)

    def gather(self, weights: Array) -> Array:
        """(d, o) -> (p, n): one group's vector per row, short groups padded by zeros, which no phi or phi* notices."""
        padded = np.vstack([weights, np.zeros((1, weights.shape[1]))])
        return padded[self.slots].reshape(self.n_groups, -1)

    def scatter(self, vectors: Array) -> Array:
        """(p, n) -> (d, o): the inverse of `gather`."""
        d, o = self.X.shape[1], self.targets2d.shape[1]
        weights = np.empty((d + 1, o))
        weights[self.slots] = vectors.reshape(*self.slots.shape, o)
        return weights[:d]

    def matrix(self, weights: ArrayLike) -> Array:
        """Weights as (d, outputs); InputError on a wrong shape or NaN."""
        array = np.asarray(weights, dtype=np.float64)
        shape = (self.X.shape[1], *self.Y.shape[1:])
        if array.shape != shape and array.shape != (self.X.shape[1], self.targets2d.shape[1]):
            raise InputError(f"weights must have shape {shape}, not {array.shape}")
        if np.isnan(array).any():
            raise InputError("weights contain NaN; give finite weights")
        return array.reshape(self.X.shape[1], -1)

    def shaped(self, weights: Array) -> Array:
        """(d, outputs) weights in the shape that matches the targets."""
        return weights.reshape(self.X.shape[1], *self.Y.shape[1:])

    def loss_value(self, weights: ArrayLike) -> float:
        """L(X W, Y); squared: ||X W - Y||^2."""
        return self.measure.value(self.X @ self.matrix(weights), self.targets2d)

    def kept(self, weights: ArrayLike) -> NDArray[np.bool_]:
        """(p,) whether a group has a nonzero weight."""
        rows = np.any(self.matrix(weights) != 0, axis=1)
        return np.bincount(self.labels, weights=rows, minlength=self.n_groups) > 0

    def objective(self, weights: ArrayLike, indicators: ArrayLike | None = None) -> float:
        """True value of the mixed-integer program; +inf outside the box, where a group without indicator is
        nonzero, or where more than `at_most` groups are kept."""
        w, nonzero = self.matrix(weights), self.kept(weights)
        y = nonzero if indicators is None else _binary(indicators, self.n_groups)
        if np.any(nonzero & ~y) or not self._inside(w) or self._too_many(y):
            return float("inf")
        bracket = np.sum(self.regulariser.cost(w)) + self.regulariser.price * np.count_nonzero(y)
        return self.loss_value(w) + self.strength * float(bracket)

    def relaxed(self, weights: ArrayLike) -> float:
        """Loss + strength * sum_j r(w_j): the projected perspective relaxation's objective; +inf outside the box.

        With `at_most` the least of Loss + strength * sum_j P(w_j, y_j) over y in [0, 1] with that sum: +inf if none fits.
        """
        w = self.matrix(weights)
        vectors = self.gather(w)
        if self.at_most is None:
            return self.loss_value(w) + self.strength * float(np.sum(self.regulariser.value(vectors)))
        y = share_count(self.regulariser, vectors, self.at_most)
        if y is None:
            return float("inf")
        if np.array_equal(y, self.regulariser.indicator(vectors)):  # the count does not bind
            return self.loss_value(w) + self.strength * float(np.sum(self.regulariser.value(vectors)))
        return self.perspective(w, y)

    def perspective(self, weights: ArrayLike, indicators: ArrayLike) -> float:
        """Loss + strength * sum_j [ y_j sum_k phi(w_jk / y_j) + price y_j ] at 0 <= y <= 1; +inf where infeasible."""
        w, y = self.matrix(weights), np.asarray(indicators, dtype=np.float64)
        if y.shape != (self.n_groups,) or not np.all((y >= 0) & (y <= 1)):
            raise InputError(f"indicators must be {self.n_groups} numbers between 0 and 1")
        if np.any(self.kept(w) & (y == 0)) or self._too_many(y):
            return float("inf")
        scale = np.where(y > 0, y, 1.0)[self.labels][:, None]
        bound = self.regulariser.bound
        if bound is not None and np.any(np.abs(w) > bound * scale * (1 + 1e-12)):
            return float("inf")
        ratio = np.abs(w) / scale if bound is None else np.minimum(np.abs(w) / scale, bound)
        bracket = np.sum(scale * self.regulariser.cost(ratio)) + self.regulariser.price * np.sum(y)
        return self.loss_value(w) + self.strength * float(bracket)

    def big_m_relaxed(self, weights: ArrayLike) -> float:
        """Objective of the big-M relaxation, y_j = max_k |w_jk| / M; without a bound the limit M -> inf, where y is free.

        +inf outside the box, or where the sum of those y passes `at_most`.
        """
        w = self.matrix(weights)
        if not self._inside(w):
            return float("inf")
        bracket = float(np.sum(self.regulariser.cost(w)))
        if self.regulariser.bound is not None:
            peaks = float(np.sum(np.max(np.abs(self.gather(w)), axis=1)))
            if self._too_many(np.array([peaks / self.regulariser.bound])):
                return float("inf")
            bracket += self.regulariser.price * peaks / self.regulariser.bound
        return self.loss_value(w) + self.strength * bracket

    def _inside(self, w: Array) -> bool:
        bound = self.regulariser.bound
        return bool(np.all(np.isfinite(w))) and (bound is None or bool(np.all(np.abs(w) <= bound)))

    def _too_many(self, y: Array | NDArray[np.bool_]) -> bool:
        return self.at_most is not None and float(np.sum(y)) > self.at_most * (1 + COUNT_SLACK)


def _count(at_most: Any, n_groups: int) -> int | None:
    if at_most is None:
        return None
    whole = isinstance(at_most, int | np.integer) and not isinstance(at_most, bool | np.bool_)
    if not whole or not 1 <= at_most <= n_groups:
        raise InputError(f"at_most must be a whole number of groups between 1 and {n_groups}, not {at_most!r}")
    return int(at_most)


def _numbers(name: str, values: ArrayLike) -> Array:
    try:
        given = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} must be an array of numbers") from error
    if given.dtype.kind not in "biuf":
        raise InputError(f"{name} must be an array of numbers, not {given.dtype}; cast them to real numbers")
    with np.errstate(over="ignore"):
        array = given.astype(np.float64)  # a copy
        squares = np.sum(array**2)
    if not np.all(np.isfinite(given)):
        raise InputError(f"{name} contain NaN or inf; remove those samples first")
    if not squares <= LARGEST:
        raise InputError(f"{name} are too large, their sum of squares passes {LARGEST:g}; rescale the data")
    return array


def _binary(indicators: ArrayLike, n: int) -> NDArray[np.bool_]:
    array = np.asarray(indicators)
    if array.shape != (n,) or not np.all((array == 0) | (array == 1)):
        raise InputError(f"indicators must be {n} zeros or ones, one per group")
    return array.astype(bool)
