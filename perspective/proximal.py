"""The proximal operator of tau r: a threshold, one monotone equation in y, and the weights.

With s_k(y) the root of y s + tau phi'(s) = |v_k|, cut at the box, the optimal indicator is the root of
    F(y) = price - sum_k phi*((|v_k| - y s_k(y)) / tau),
which is nondecreasing; the prox is 0 where F(0) >= 0, y = 1 where F(1) <= 0, and w_k = sign(v_k) y s_k(y).
"""

from dataclasses import dataclass

import sympy

from perspective.block import IndicatorBlock
from perspective.conjugate import Conjugate
from perspective.norms import norm, sides, total
from perspective.projection import C
from perspective.scalar import ScalarCalculus, T, V, Y, Z

VV = sympy.Symbol("v")
SOFT = sympy.Symbol("u")  # u_k = max(|v_k| - tau phi'(0+), 0)


@dataclass(frozen=True)
class Proximal:
    """Symbolic prox of tau r.

    root_equation  y s + tau phi'(s) - v: its root in s is s_k(y) before the box cuts it
    shrunk     s_k(y) for v = |v_k|, box included; None where the root has no closed form
    threshold  the condition under which the whole group is exactly zero
    equation   F(y); its root in (0, 1) is the indicator of the answer
    solution   that root in closed form, without a box only; None where there is none. `u` stands for the vector
               max(|v_k| - tau phi'(0+), 0)
    """

    root_equation: sympy.Expr
    shrunk: sympy.Expr | None
    threshold: sympy.Basic
    equation: sympy.Expr
    solution: sympy.Expr | None


def proximal(block: IndicatorBlock, scalar: ScalarCalculus, conjugate: Conjugate) -> Proximal:
    """Derive threshold and y-equation of the prox from the scalar calculus."""
    s, floor = block.weight, scalar.slope_at_zero
    formulas = [conjugate.scalar] + ([] if conjugate.negative is None else [conjugate.negative])
    at_zero = sympy.Add(
        *(
            total(sympy.expand_power_base(formula.subs(Z, V / T)), V, part, block.radial)
            for formula, (_, part) in zip(formulas, sides(block, VV), strict=True)
        )
    )
    root = sympy.Function("s", positive=True)(Y, V) if scalar.scaled_root is None else scalar.scaled_root
    inside = sympy.Add(
        *(total(_terms(block, scalar, root, bound), V, part, block.radial) for bound, part in sides(block, VV))
    )
    shrunk = None
    if scalar.scaled_root is not None:
        shrunk = sympy.Max(0, root) if floor != 0 else root
        shrunk = shrunk if block.bound is None else sympy.Min(shrunk, block.bound)
    return Proximal(
        root_equation=Y * s + T * scalar.slope - V,
        shrunk=shrunk,
        threshold=sympy.Le(at_zero, block.price),
        equation=block.price - inside,
        solution=_closed_form(block, scalar),
    )


def _terms(block: IndicatorBlock, scalar: ScalarCalculus, root: sympy.Expr, bound: sympy.Expr | None) -> sympy.Expr:
    """phi*((v - y s(y)) / tau) as a function of v = |v_k|: L(s) where the box does not cut, linear where it does."""
    s, floor = block.weight, scalar.slope_at_zero
    if bound == 0:
        return sympy.Integer(0)
    cases = [(sympy.Integer(0), V <= T * floor)] if floor != 0 else []
    uncut = scalar.legendre.subs(s, root)
    if bound is None:
        return sympy.Piecewise(*cases, (uncut, True))
    # cut at the box: bound z - phi(bound) with z = (v - y bound)/tau
    cases.append((uncut, V <= sympy.expand(Y * bound + T * scalar.slope.subs(s, bound))))
    return sympy.Piecewise(*cases, (bound * (V - Y * bound) / T - block.cost.subs(s, bound), True))


def _closed_form(block: IndicatorBlock, scalar: ScalarCalculus) -> sympy.Expr | None:
    """Root of F without a box for phi = a s^2 + b s: price = a |u|_2^2 / (y + 2 a tau)^2."""
    if block.bound is not None or block.lower is not None or scalar.quadratic is None or scalar.legendre == 0:
        return None
    u, size = sympy.symbols("u S", positive=True)
    body = sympy.factor(scalar.legendre.subs(block.weight, scalar.scaled_root).subs(V, u + T * scalar.slope_at_zero))
    mass = sympy.simplify(body / u**2)  # free of u: L(s) = a s^2, and s is proportional to u
    for root in sympy.solve(sympy.numer(sympy.together(mass - C / size**2)), Y):
        if sympy.limit(root, size, sympy.oo) == sympy.oo:
            vector = VV if scalar.slope_at_zero == 0 else SOFT
            return sympy.expand(sympy.simplify(root)).subs({size: norm(vector, 2), C: block.price})
    return None
