"""A regulariser with every parameter a number: checked inputs, float64 numpy, compiled from its own source text."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy
from numpy.typing import ArrayLike, NDArray

from perspective.errors import InputError

if TYPE_CHECKING:
    from perspective.regularizer import Regularizer

Array = NDArray[np.float64]
CACHE_NUMBERS = 16384


@dataclass(frozen=True)
class NumericRegularizer:
    """r with numbers for all parameters. Arrays have shape (..., n): one group per row; results are float64.

    NaN in an array raises InputError. Infinite entries are allowed: `value` is inf, `prox` is the limit (the box's edge,
    or inf without a box). Made by `Regularizer.bind`.
    """

    regularizer: "Regularizer"
    parameters: Mapping[str, float]
    price: float
    bound: float | None
    quadratic: tuple[float, float] | None  # (a, b) when cost(s) = a s^2 + b s
    _functions: Mapping[str, Callable[..., Array]] = field(repr=False, compare=False)

    def __reduce__(self) -> tuple[Callable[..., "NumericRegularizer"], tuple[object, ...]]:
        """Copies and pickles are bound again: the compiled functions stay behind."""
        return bind, (self.regularizer, dict(self.parameters))

    def value(self, w: ArrayLike) -> Array:
        """r(w), shape (...,); +inf outside the box."""
        return self._call("value", _array(w, "w"))

    def indicator(self, w: ArrayLike) -> Array:
        """y*(w) in [0, 1], shape (...,): the minimiser of the perspective; 1 also outside the box."""
        return self._call("indicator", _array(w, "w"))

    def conjugate(self, z: ArrayLike) -> Array:
        """r*(z) = max(0, sum_k phi*(z_k) - price), shape (...,)."""
        return self._call("conjugate", _array(z, "z"))

    def gradient(self, w: ArrayLike) -> Array:
        """A subgradient of r, shape (..., n), zero at zero; InputError outside the box, where there is none."""
        w = _array(w, "w")
        if self.bound is not None and np.any(np.abs(w) > self.bound):
            raise InputError(f"r has no subgradient outside the box |w| <= {self.bound:g}; clip w first")
        return self._call("gradient", w)

    def prox(self, v: ArrayLike, step: ArrayLike) -> Array:
        """argmin_w |w - v|^2 / 2 + step r(w), shape (..., n), exact zeros. step > 0: a float or shape (...,)."""
        v = _array(v, "v")
        tau = np.asarray(step, dtype=np.float64)
        if not np.all((tau > 0) & np.isfinite(tau)):
            raise InputError("the prox step must be positive and finite; it is the learning rate times the strength")
        if tau.ndim and tau.shape != v.shape[:-1]:
            raise InputError(f"step has shape {tau.shape}; give one number, or one per row: shape {v.shape[:-1]}")
        rows = v.reshape(-1, v.shape[-1])
        steps = np.broadcast_to(tau, v.shape[:-1]).reshape(-1, 1)
        answer = np.empty_like(rows)
        block = max(
            1, CACHE_NUMBERS // rows.shape[1]
        )  # a block's temporaries stay in cache, and it stops when it is done
        for start in range(0, len(rows), block):
            part = slice(start, start + block)
            answer[part] = self._functions["prox"](rows[part], steps[part], **self.parameters)
        return answer.reshape(v.shape)

    def zero_threshold(self, v: ArrayLike) -> Array:
        """T(v), shape (...,): prox(v, step) is zero exactly where step >= T."""
        return self._call("zero_threshold", _array(v, "v"))

    def cost(self, s: ArrayLike) -> Array:
        """phi(|s|) elementwise, box ignored."""
        return self._scalar("_cost", s)

    def cost_derivative(self, s: ArrayLike) -> Array:
        """phi'(|s|) >= 0 elementwise, box ignored."""
        return self._scalar("_slope", s)

    def cost_conjugate(self, z: ArrayLike) -> Array:
        """phi*(|z|) = max over 0 <= s <= bound of |z| s - phi(s), elementwise."""
        return self._scalar("_scalar_conjugate", z)

    def _call(self, name: str, x: Array) -> Array:
        return self._functions[name](x, **self.parameters)

    def _scalar(self, name: str, x: ArrayLike) -> Array:
        values = _real(x, "the array")
        theta = tuple(np.asarray(p) for p in self.parameters.values())
        with np.errstate(all="ignore"):
            return np.broadcast_to(self._functions[name](np.abs(values), theta), values.shape).astype(np.float64)


def bind(regularizer: "Regularizer", parameters: Mapping[str, float]) -> NumericRegularizer:
    """Check the numbers against the block and compile; InputError with one sentence for the first that is wrong."""
    block = regularizer.block
    missing = [name for name in block.parameters if name not in parameters]
    unknown = [name for name in parameters if name not in block.parameters]
    if missing or unknown:
        have = ", ".join(block.parameters) or "none"
        raise InputError(
            f"parameter {(missing or unknown)[0]} is {'missing' if missing else 'unknown'}; the block's parameters are: {have}"
        )
    numbers = {name: _number(name, parameters[name]) for name in block.parameters}
    substitution = {sympy.Symbol(name, positive=True): value for name, value in numbers.items()}
    price = _evaluate("price", block.price, substitution)
    bound = None if block.bound is None else _evaluate("bound", block.bound, substitution)
    formula = regularizer.scalar.quadratic
    quadratic = (
        None if formula is None else (float(formula[0].subs(substitution)), float(formula[1].subs(substitution)))
    )
    functions = _compile(regularizer)
    bound_regularizer = NumericRegularizer(
        regularizer, MappingProxyType(numbers), price, bound, quadratic, MappingProxyType(functions)
    )
    _refuse_bad_cost(bound_regularizer)
    return bound_regularizer


@lru_cache(maxsize=64)
def _compile(regularizer: "Regularizer") -> dict[str, Callable[..., Array]]:
    namespace: dict[str, Any] = {"__name__": "derived_regulariser"}
    exec(compile(regularizer.source("numpy"), "<derived regulariser>", "exec"), namespace)  # text written by us
    return {name: f for name, f in namespace.items() if callable(f)}


def _number(name: str, value: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        cure = "; for no box declare bound=None" if value is None else ""
        raise InputError(f"parameter {name} must be a number, not {value!r}{cure}") from error
    if not (number > 0 and math.isfinite(number)):
        raise InputError(f"parameter {name} is {number:g}; it must be positive and finite")
    return number


def _evaluate(what: str, expression: sympy.Expr, substitution: Mapping[sympy.Symbol, float]) -> float:
    number = complex(expression.subs(substitution))
    if number.imag or not (number.real > 0 and math.isfinite(number.real)):
        given = ", ".join(f"{symbol.name} = {value:g}" for symbol, value in substitution.items())
        raise InputError(f"the {what} {expression} is {number.real:g} at {given}; choose values that make it positive")
    return number.real


def _refuse_bad_cost(r: NumericRegularizer) -> None:
    """A convex cost >= 0: checked on a grid over the box (or over 1e-6 .. 1e6), naming the point that shows it."""
    top = 1e6 if r.bound is None else r.bound
    top = 1e3 * top if r.regularizer.block.joined_by_norm else top  # |w|_2 reaches sqrt(n) times the box
    s = top * np.logspace(-12, 0, 400)
    with np.errstate(over="ignore"):
        cost, slope = r.cost(s), r.cost_derivative(s)
    fine = np.isfinite(cost) & np.isfinite(slope)
    s, cost, slope = s[fine], cost[fine], slope[fine]
    text = r.regularizer.block.cost
    negative = np.flatnonzero(cost < 0)
    if negative.size:
        raise InputError(f"the cost {text} is {cost[negative[0]]:g} < 0 at {s[negative[0]]:g}; a cost must be >= 0")
    falling = np.flatnonzero(np.diff(slope) < -1e-12 * (1 + np.abs(slope[:-1])))
    if falling.size:
        k = falling[0]
        raise InputError(f"the cost {text} is not convex: its slope falls between {s[k]:g} and {s[k + 1]:g}")
    rise, width = np.diff(cost), np.diff(s)
    slack = 1e-9 * (np.abs(cost[1:]) + slope[1:] * s[1:]) + 1e-14  # 1e-14: rounding of constants of size one
    jumps = np.flatnonzero((rise < slope[:-1] * width - slack) | (rise > slope[1:] * width + slack))
    if jumps.size:
        k = jumps[0]
        raise InputError(f"the cost {text} is not convex: it does not follow its slope from {s[k]:g} to {s[k + 1]:g}")


def _array(x: ArrayLike, name: str) -> Array:
    values = _real(x, name)
    if values.ndim == 0 or values.shape[-1] == 0:
        raise InputError(f"{name} must have shape (..., n) with n >= 1 weights of one group in each row")
    return values


def _real(x: ArrayLike, name: str) -> Array:
    try:
        raw = np.asarray(x)
    except ValueError as error:
        raise InputError(f"{name} is ragged; give every group the same number of weights") from error
    if raw.dtype.kind not in "biuf":
        raise InputError(f"{name} must hold real numbers, not {raw.dtype}")
    values = raw.astype(np.float64, copy=False)
    if np.isnan(values).any():
        raise InputError(f"{name} holds NaN; find where it comes from, or drop those rows")
    return values
