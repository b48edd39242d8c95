"""One group's prox and value as conic programs for cvxpy and Clarabel: a referee that shares no formula with the stages.

The perspective of each cost is written by hand in cones over (w, y), y in [0, 1]; box and price come from the block. Each
program is compiled once (its numbers are cvxpy parameters) and solved again for every case.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cvxpy as cp
import numpy as np
import sympy

from perspective import IndicatorBlock, derive
from perspective.regularizer import Regularizer

s, alpha, beta, c, d, M, U, L = sympy.symbols("s alpha beta c d M U L", positive=True)
HUBER = sympy.Piecewise((alpha * s**2, s <= d), (2 * alpha * d * s - alpha * d**2, True))
DEAD_ZONE = sympy.Piecewise((beta * s, s <= d), (alpha * (s - d) ** 2 + beta * s, True))
Cone = tuple[list[tuple[sympy.Expr, cp.Expression]], list[cp.Constraint]]  # [(coefficient, convex term)], constraints


def squares(w, y, _number) -> Cone:
    """alpha s^2."""
    return [(alpha, cp.quad_over_lin(w, y))], []


def elastic(w, y, _number) -> Cone:
    """alpha s^2 + beta s."""
    return [(alpha, cp.quad_over_lin(w, y)), (beta, cp.norm1(w))], []


def radial_elastic(w, y, _number) -> Cone:
    """The same of the Euclidean norm."""
    return [(alpha, cp.quad_over_lin(w, y)), (beta, cp.norm2(w))], []


def absolutes(w, y, _number) -> Cone:
    """alpha s."""
    return [(alpha, cp.norm1(w))], []


def nothing(w, y, _number) -> Cone:
    """No cost."""
    return [], []


def three_halves(w, y, _number) -> Cone:
    """alpha s^(3/2): t^(2/3) y^(1/3) >= |w|."""
    t = cp.Variable(w.size, nonneg=True)
    return [(alpha, cp.sum(t))], [cp.PowCone3D(t, y * np.ones(w.size), w, 2 / 3)]


def radial_three_halves(w, y, _number) -> Cone:
    """The same of the Euclidean norm, t >= |w|_2."""
    t, size = cp.Variable(1, nonneg=True), cp.Variable(1, nonneg=True)
    return [(alpha, cp.sum(t))], [cp.PowCone3D(t, y * np.ones(1), size, 2 / 3), size >= cp.norm2(w)]


def cubes(w, y, _number) -> Cone:
    """alpha s^3: t^(1/3) y^(2/3) >= |w|."""
    t = cp.Variable(w.size, nonneg=True)
    return [(alpha, cp.sum(t))], [cp.PowCone3D(t, y * np.ones(w.size), w, 1 / 3)]


def huber(w, y, _number) -> Cone:
    """Huber is the infimal convolution of alpha s^2 and 2 alpha d s, and the perspective keeps that."""
    u, x = cp.Variable(w.size), cp.Variable(w.size)
    return [(alpha, cp.quad_over_lin(u, y)), (2 * alpha * d, cp.norm1(x))], [w == u + x]


def dead_zone(w, y, number) -> Cone:
    """beta s + alpha max(s - d, 0)^2."""
    over = cp.Variable(w.size, nonneg=True)
    return [(alpha, cp.quad_over_lin(over, y)), (beta, cp.norm1(w))], [over >= cp.abs(w) - number(d) * y]


def saturating(w, y, _number) -> Cone:
    """s^2 / (1 + s): y phi(|w|/y) = t^2 / (y + t) with t >= |w|, because phi increases."""
    t = cp.Variable(w.size, nonneg=True)
    each = [cp.quad_over_lin(t[k], y + t[k]) for k in range(w.size)]
    return [(sympy.Integer(1), cp.sum(each) if len(each) == 1 else sum(each))], [t >= cp.abs(w)]


def hyperbolic(w, y, _number) -> Cone:
    """cosh(s) - 1: y exp(w/y) <= p, y exp(-w/y) <= q."""
    p, q, ys = cp.Variable(w.size), cp.Variable(w.size), y * np.ones(w.size)
    return [(sympy.Integer(1), cp.sum(p + q) / 2 - w.size * y)], [cp.ExpCone(w, ys, p), cp.ExpCone(-w, ys, q)]


@dataclass(frozen=True)
class Family:
    """A cost, and its perspective in cones."""

    block: IndicatorBlock
    cone: Callable[..., Cone]
    size: int  # weights in the group


def _family(cone: Callable[..., Cone], size: int, cost: sympy.Expr, **shape: object) -> Family:
    return Family(IndicatorBlock(**{"cost": cost, "weight": s, "price": c, **shape}), cone, size)


FAMILIES = {
    "SPR": _family(squares, 9, alpha * s**2, price=1 - alpha, bound=M),
    "quadratic, no box": _family(squares, 5, alpha * s**2),
    "elastic": _family(elastic, 4, alpha * s**2 + beta * s),
    "elastic in a box": _family(elastic, 9, alpha * s**2 + beta * s, bound=M),
    "power 3/2": _family(three_halves, 4, alpha * s ** sympy.Rational(3, 2)),
    "power 3 in a box": _family(cubes, 3, alpha * s**3, bound=M),
    "Huber": _family(huber, 5, HUBER),
    "Huber in a box": _family(huber, 4, HUBER, bound=M),
    "linear, then quadratic": _family(dead_zone, 4, DEAD_ZONE, bound=M),
    "pure price": _family(nothing, 6, sympy.Integer(0), bound=M),
    "linear in a box": _family(absolutes, 5, alpha * s, bound=M),
    "linear, no box": _family(absolutes, 5, alpha * s),
    "cosh in a box": _family(hyperbolic, 4, sympy.cosh(s) - 1, bound=M),
    "s^2/(1+s)": _family(saturating, 4, s**2 / (1 + s)),
    "radial quadratic in a ball": _family(squares, 5, alpha * s**2, bound=M, radial=True),
    "radial elastic": _family(radial_elastic, 5, alpha * s**2 + beta * s, radial=True),
    "radial elastic in a box": _family(radial_elastic, 5, alpha * s**2 + beta * s, bound=M, radial=True, domain="box"),
    "radial power 3/2 in a box": _family(
        radial_three_halves, 4, alpha * s ** sympy.Rational(3, 2), bound=M, radial=True, domain="box"
    ),
    "two sides": _family(squares, 5, alpha * s**2, bound=U, lower=L),
    "nonnegative elastic": _family(elastic, 5, alpha * s**2 + beta * s, lower=0),
    "one weight": _family(squares, 1, alpha * s**2, bound=M),
    "a large group": _family(squares, 60, alpha * s**2, bound=M),
}


@dataclass(frozen=True)
class ConicGroup:
    """Two programs over shared cvxpy parameters. Made by `pose`."""

    regularizer: Regularizer
    coefficients: tuple[tuple[sympy.Expr, cp.Parameter], ...]  # the cost's, and the price: multiplied by the step
    shape: tuple[tuple[sympy.Expr, cp.Parameter], ...]  # box and breakpoints: not multiplied by the step
    target: cp.Parameter
    weights: cp.Variable
    proximal: cp.Problem
    projected: cp.Problem

    def prox(self, v: np.ndarray, step: float, numbers: dict[str, float]) -> tuple[float, np.ndarray]:
        """Minimum and minimiser of |w - v|^2 / 2 + step r(w)."""
        self._set(v, step, numbers)
        return _solve(self.proximal), np.array(self.weights.value)

    def value(self, w: np.ndarray, numbers: dict[str, float]) -> float:
        """min over y of the perspective at w; w inside the box."""
        self._set(w, 1.0, numbers)
        return _solve(self.projected)

    def _set(self, target: np.ndarray, step: float, numbers: dict[str, float]) -> None:
        values = {sympy.Symbol(name, positive=True): number for name, number in numbers.items()}
        self.target.value = target
        for expression, parameter in self.coefficients:
            parameter.value = step * float(expression.subs(values))
        for expression, parameter in self.shape:
            parameter.value = float(expression.subs(values))


@lru_cache(maxsize=32)
def pose(name: str) -> ConicGroup:
    """Compile both programs of FAMILIES[name]."""
    family = FAMILIES[name]
    block, w, y, v = family.block, cp.Variable(family.size), cp.Variable(nonneg=True), cp.Parameter(family.size)
    shape: dict[sympy.Expr, cp.Parameter] = {}

    def number(expression: sympy.Expr) -> cp.Parameter:
        return shape.setdefault(expression, cp.Parameter(nonneg=True))

    terms, constraints = family.cone(w, y, number)
    priced = [*terms, (block.price, y)]
    coefficients = tuple((expression, cp.Parameter(nonneg=True)) for expression, _ in priced)
    perspective = sum(parameter * term for (_, parameter), (_, term) in zip(coefficients, priced, strict=True))
    constraints = [*constraints, y <= 1]
    if block.bound is not None:
        constraints.append((cp.norm2(w) if block.domain == "ball" else w) <= number(block.bound) * y)
    if block.domain == "box" and (block.lower is not None or block.bound is not None):
        lower = block.bound if block.lower is None else block.lower
        constraints.append(w >= (0 if lower == 0 else -number(lower) * y))
    return ConicGroup(
        derive(block),
        coefficients,
        tuple(shape.items()),
        v,
        w,
        cp.Problem(cp.Minimize(0.5 * cp.sum_squares(w - v) + perspective), constraints),
        cp.Problem(cp.Minimize(perspective), [*constraints, w == v]),
    )


def _solve(problem: cp.Problem) -> float:
    """To 1e-9; to Clarabel's own 1e-8 where rounding stops it before."""
    for tolerance in (1e-9, 1e-8):
        settings = {"tol_gap_abs": tolerance, "tol_gap_rel": tolerance, "tol_feas": tolerance}
        with warnings.catch_warnings(), np.errstate(divide="ignore"):  # cvxpy evaluates w^2 / y at y = 0 too
            warnings.filterwarnings("ignore", "Solution may be inaccurate")
            problem.solve(solver=cp.CLARABEL, **settings)
        if problem.status == cp.OPTIMAL:
            return float(problem.solution.opt_val)  # problem.value would be inf where the best y is 0
    raise RuntimeError(f"Clarabel ended with {problem.status}; the case is badly scaled")
