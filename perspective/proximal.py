"""The proximal operator of tau r: a threshold, one monotone equation in y, and the weights.

With s_k(y) the root of y s + tau phi'(s) = |v_k|, cut at the box, the optimal indicator is the root of
    F(y) = price - sum_k phi*((|v_k| - y s_k(y)) / tau),
which is nondecreasing; the prox is 0 where F(0) >= 0, y = 1 where F(1) <= 0, and w_k = sign(v_k) y s_k(y).
A radial cost in a box has s_k(y) = min(|v_k| / q, bound) with one q for the group, q rho = y rho + tau phi'(rho), rho = |s|_2.
"""

from dataclasses import dataclass

import sympy

from perspective.block import IndicatorBlock
from perspective.conjugate import Conjugate
from perspective.norms import norm, sides, total
from perspective.piecewise import at_most, on_segment
from perspective.projection import C
from perspective.radial_box import RATIO, SCALED_RATIO, clipped_norm, slope_over_size, supremum
from perspective.scalar import ScalarCalculus, T, V, Y, Z

VV = sympy.Symbol("v")
SOFT = sympy.Symbol("u")  # u_k = max(|v_k| - tau phi'(0+), 0)


@dataclass(frozen=True)
class Proximal:
    """Symbolic prox of tau r.

    root_equation  y s + tau phi'(s) - v: its root in s is s_k(y) before the box cuts it; for a radial cost in a box
                   q rho - y rho - tau phi'(rho): its root in q is the q of `shrunk` and `equation`
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
    if block.joined_by_norm:
        return _joined(block, scalar)
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
        threshold=sympy.Le(at_zero, block.price, evaluate=False),  # sympy takes a sum of 0s and oos for 0
        equation=block.price - inside,
        solution=_closed_form(block, scalar),
    )


def _joined(block: IndicatorBlock, scalar: ScalarCalculus) -> Proximal:
    """A radial cost in a box: everything through one q, and through u for the threshold, the q of y = 0 over tau."""
    rho, same = clipped_norm(block, VV, SCALED_RATIO), slope_over_size(block, scalar)
    at_zero = supremum(block, scalar, VV, T * (RATIO if same is None else same), T)
    return Proximal(
        root_equation=SCALED_RATIO * rho - Y * rho - T * scalar.slope.subs(block.weight, rho),
        shrunk=sympy.Min(V / SCALED_RATIO, block.bound),
        threshold=sympy.Le(at_zero, block.price),
        equation=block.price - supremum(block, scalar, VV, SCALED_RATIO, T),
        solution=None,
    )


def _terms(block: IndicatorBlock, scalar: ScalarCalculus, root: sympy.Expr, bound: sympy.Expr | None) -> sympy.Expr:
    """phi*((v - y s(y)) / tau) as a function of v = |v_k|: L(s) where the box does not cut, linear where it does."""
    s, floor = block.weight, scalar.slope_at_zero
    if bound == 0:
        return sympy.Integer(0)
    cases = [(sympy.Integer(0), V <= T * floor)] if floor != 0 else []
    uncut = _uncut(scalar, root)
    if bound is None:
        return sympy.Piecewise(*cases, *uncut)
    # cut at the box: bound z - phi(bound) with z = (v - y bound)/tau
    in_box = at_most(V, sympy.expand(Y * bound + T * scalar.slope.subs(s, bound)))
    cases += [(value, sympy.And(condition, in_box)) for value, condition in uncut]
    return sympy.Piecewise(*cases, (bound * (V - Y * bound) / T - block.cost.subs(s, bound), True))


def _uncut(scalar: ScalarCalculus, root: sympy.Expr) -> list[tuple[sympy.Expr, sympy.Basic]]:
    """(L(s(y)), condition on v) without a box: segment by segment where phi' is affine on each."""
    s = scalar.weight
    if scalar.affine is None:
        return [(scalar.legendre.subs(s, root), sympy.true)]
    found = []
    for part in scalar.affine:
        inside = sympy.true if part.high == sympy.oo else V <= Y * part.high + T * (2 * part.a * part.high + part.b)
        at = (V - T * part.b) / (Y + 2 * part.a * T)
        found.append((on_segment(scalar.legendre, s, part.high).subs(s, at), inside))
    return found


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
