"""Scalar calculus of one convex cost: derivative, conjugate and the scaled prox, all symbolic.

Everything about a whole group follows from these (design of the method: one scalar function gives the vector prox).
"""

from dataclasses import dataclass

import sympy

from perspective.block import IndicatorBlock
from perspective.errors import InputError
from perspective.norms import powers_of

V, Y, T, Z = sympy.symbols("v y tau z", positive=True)
SOLVABLE = {sympy.Integer(1), sympy.Rational(3, 2), sympy.Integer(2), sympy.Integer(3)}  # exponents sympy inverts well


@dataclass(frozen=True)
class ScalarCalculus:
    """Calculus of phi at s = |w_k| >= 0, box not yet applied. None marks what has no closed form worth printing.

    slope        phi'(s)
    curvature    phi''(s)
    slope_at_zero  phi'(0+); arguments below it are answered by s = 0
    legendre     s phi'(s) - phi(s), which is the conjugate at z = phi'(s)
    maximiser    argmax_s z s - phi(s) for z > phi'(0+)
    conjugate    phi*(z) for z > phi'(0+), no box; oo where phi is linear
    scaled_root  the s >= 0 with y s + tau phi'(s) = v, for v > tau phi'(0+): the scaled prox of phi
    affine       (a, b) when phi(s) = a s^2 + b s, so that scaled_root is one division
    """

    cost: sympy.Expr
    weight: sympy.Symbol
    slope: sympy.Expr
    curvature: sympy.Expr
    slope_at_zero: sympy.Expr
    legendre: sympy.Expr
    maximiser: sympy.Expr | None
    conjugate: sympy.Expr | None
    scaled_root: sympy.Expr | None
    affine: tuple[sympy.Expr, sympy.Expr] | None


def calculate(block: IndicatorBlock) -> ScalarCalculus:
    """Derive the scalar calculus of the block's cost; InputError where the slope at zero is not finite and >= 0."""
    s, cost = block.weight, block.cost
    slope = sympy.simplify(sympy.diff(cost, s))
    curvature = sympy.simplify(sympy.diff(cost, s, 2))
    at_zero = sympy.limit(slope, s, 0, "+")
    if not at_zero.is_finite or at_zero.is_negative:
        raise InputError(f"the cost {cost} has slope {at_zero} at {s} = 0; a convex cost >= 0 has a finite slope >= 0")
    legendre = sympy.factor(sympy.simplify(sympy.expand(s * slope - cost)))
    powers = powers_of(cost, s)
    linear = curvature == 0
    if linear:
        maximiser, conjugate, root = None, sympy.oo, (V - T * at_zero) / Y
    elif powers is not None and set(powers) <= SOLVABLE:
        maximiser = _positive_root(slope - Z, s, Z, at_zero)
        conjugate = None if maximiser is None else sympy.simplify(legendre.subs(s, maximiser))
        root = _positive_root(Y * s + T * slope - V, s, V, T * at_zero)
    else:
        maximiser = conjugate = root = None
    affine = None
    if powers is not None and set(powers) <= {sympy.Integer(1), sympy.Integer(2)}:
        affine = (powers.get(sympy.Integer(2), sympy.Integer(0)), powers.get(sympy.Integer(1), sympy.Integer(0)))
    return ScalarCalculus(cost, s, slope, curvature, at_zero, legendre, maximiser, conjugate, root, affine)


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
