"""Scalar calculus of one convex cost: derivative, conjugate and the scaled prox, all symbolic.

Everything about a whole group follows from these: one scalar function gives the vector prox.
"""

from dataclasses import dataclass

import sympy

from perspective.block import IndicatorBlock
from perspective.errors import InputError
from perspective.norms import powers_of
from perspective.piecewise import limit_at_infinity, limit_at_zero, on_segment, segments

V, Y, T, Z = sympy.symbols("v y tau z", positive=True)
SOLVABLE = {sympy.Integer(1), sympy.Rational(3, 2), sympy.Integer(2), sympy.Integer(3)}  # exponents sympy inverts well
QUARTIC = {sympy.Rational(3, 2), sympy.Integer(3)}  # together a quartic in sqrt(s), whose roots sympy does not finish


@dataclass(frozen=True)
class AffineSegment:
    """A segment low <= s <= high on which phi' = 2 a s + b."""

    a: sympy.Expr
    b: sympy.Expr
    high: sympy.Expr


@dataclass(frozen=True)
class ScalarCalculus:
    """Calculus of phi at s = |w_k| >= 0, box not yet applied. None marks what has no closed form worth printing.

    slope        phi'(s)
    curvature    phi''(s)
    slope_at_zero  phi'(0+); arguments below it are answered by s = 0
    steepest     lim phi(s)/s = lim phi'(s): the recession slope; oo where phi grows faster than any line
    legendre     L(s) = s phi'(s) - phi(s), which is the conjugate at z = phi'(s)
    legendre_top lim L(s) for s -> oo
    maximiser    argmax_s z s - phi(s) for z > phi'(0+)
    conjugate    phi*(z) for z > phi'(0+), no box; oo beyond the steepest slope
    scaled_root  the s >= 0 with y s + tau phi'(s) = v, for v > tau phi'(0+): the scaled prox of phi
    affine       phi' segment by segment where it is affine on each, so that scaled_root is one division
    """

    cost: sympy.Expr
    weight: sympy.Symbol
    slope: sympy.Expr
    curvature: sympy.Expr
    slope_at_zero: sympy.Expr
    steepest: sympy.Expr
    legendre: sympy.Expr
    legendre_top: sympy.Expr
    maximiser: sympy.Expr | None
    conjugate: sympy.Expr | None
    scaled_root: sympy.Expr | None
    affine: tuple[AffineSegment, ...] | None

    @property
    def quadratic(self) -> tuple[sympy.Expr, sympy.Expr] | None:
        """(a, b) when phi(s) = a s^2 + b s everywhere."""
        return (self.affine[0].a, self.affine[0].b) if self.affine is not None and len(self.affine) == 1 else None


def calculate(block: IndicatorBlock) -> ScalarCalculus:
    """Derive the scalar calculus of the block's cost; InputError where the slope at zero is not finite and >= 0."""
    s, cost = block.weight, block.cost
    slope = sympy.simplify(sympy.diff(cost, s))
    at_zero = limit_at_zero(slope, s)
    if not at_zero.is_finite or at_zero.is_negative:
        raise InputError(f"the cost {cost} has slope {at_zero} at {s} = 0; a convex cost >= 0 has a finite slope >= 0")
    legendre = sympy.simplify(sympy.expand(s * slope - cost))
    if not legendre.has(sympy.Piecewise):
        legendre = sympy.factor(legendre)
    affine = _affine_segments(block)
    powers = powers_of(cost, s)
    maximiser: sympy.Expr | None = None
    conjugate: sympy.Expr | None = None
    root: sympy.Expr | None = None
    if affine is not None:
        maximiser, conjugate, root = _by_segments(affine, s, legendre)
    elif powers is not None and set(powers) <= SOLVABLE and not set(powers) >= QUARTIC:
        maximiser = _positive_root(slope - Z, s, Z, at_zero)
        conjugate = None if maximiser is None else sympy.simplify(legendre.subs(s, maximiser))
        root = _positive_root(Y * s + T * slope - V, s, V, T * at_zero)
    return ScalarCalculus(
        cost=cost,
        weight=s,
        slope=slope,
        curvature=sympy.simplify(sympy.diff(cost, s, 2)),
        slope_at_zero=at_zero,
        steepest=limit_at_infinity(cost / s, s),
        legendre=legendre,
        legendre_top=limit_at_infinity(legendre, s),
        maximiser=maximiser,
        conjugate=conjugate,
        scaled_root=root,
        affine=affine,
    )


def _affine_segments(block: IndicatorBlock) -> tuple[AffineSegment, ...] | None:
    found = []
    for segment in segments(block.cost, block.weight):
        slope = sympy.expand(sympy.diff(segment.formula, block.weight))
        if not slope.is_polynomial(block.weight) or sympy.degree(slope, block.weight) > 1:
            return None
        a = sympy.simplify(slope.coeff(block.weight, 1) / 2)
        found.append(AffineSegment(a, slope.coeff(block.weight, 0), segment.high))
    return tuple(found)


def _by_segments(
    affine: tuple[AffineSegment, ...], s: sympy.Symbol, legendre: sympy.Expr
) -> tuple[sympy.Expr, sympy.Expr, sympy.Expr]:
    """Maximiser, conjugate and scaled root of a cost with piecewise affine slope: one division in each segment."""
    best, value, root = [], [], []
    for part in affine:
        end = 2 * part.a * part.high + part.b if part.high != sympy.oo else sympy.oo
        inside, beyond = (Z <= end, V <= Y * part.high + T * end) if end != sympy.oo else (True, True)
        flat = part.a == 0
        at = sympy.oo if flat else (Z - part.b) / (2 * part.a)
        if not flat or end == sympy.oo:  # a flat segment inside is the single point z = end of its neighbour
            best.append((at, inside))
            value.append((sympy.oo if flat else sympy.simplify(on_segment(legendre, s, part.high).subs(s, at)), inside))
        root.append(((V - T * part.b) / (Y + 2 * part.a * T), beyond))
    return tuple(sympy.Piecewise(*cases) for cases in (best, value, root))


def _positive_root(
    equation: sympy.Expr, s: sympy.Symbol, variable: sympy.Symbol, threshold: sympy.Expr
) -> sympy.Expr | None:
    """The root s > 0 of an increasing equation; of several symbolic branches, the one that is right at sample points."""
    shifted = sympy.expand(equation.subs(variable, variable + threshold))
    others = sorted(shifted.free_symbols - {s}, key=str)
    samples = [{x: sympy.Rational(3 + (7 * i + 5 * j) % 11, 4) for i, x in enumerate(others)} for j in range(4)]
    for root in sympy.solve(shifted, s):
        if all(_is_root(root.subs(point), shifted.subs(point), s) for point in samples):
            return sympy.simplify(root).subs(variable, variable - threshold)
    return None


def _is_root(value: sympy.Expr, equation: sympy.Expr, s: sympy.Symbol) -> bool:
    number = complex(value)
    return abs(number.imag) < 1e-12 and number.real > 0 and abs(complex(equation.subs(s, value))) < 1e-9
