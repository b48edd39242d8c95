"""The conjugate of the projected regulariser: what every certified dual bound needs.

r*(z) = sup_w z.w - r(w) = sup over y in [0, 1] of y (sum_k phi*(z_k) - price) = max(0, sum_k phi*(|z_k|) - price),
with phi* taken over the box. Hence 0 minimises a loss plus tau r exactly where sum_k phi*(-g_k / tau) <= price.
"""

from dataclasses import dataclass

import sympy

from perspective.block import IndicatorBlock
from perspective.norms import sides, total
from perspective.scalar import ScalarCalculus, Z

ZV = sympy.Symbol("z")


@dataclass(frozen=True)
class Conjugate:
    """scalar: phi*(z), z = |z_k|, with slope cut-off and box (s(z) solves phi'(s) = z where that has no closed form).

    negative: the same for z_k < 0 where the box has another side there, else None. group: the conjugate r*.
    """

    scalar: sympy.Expr
    negative: sympy.Expr | None
    group: sympy.Expr


def conjugate(block: IndicatorBlock, scalar: ScalarCalculus) -> Conjugate:
    """Assemble phi* with the box (linear beyond z = phi'(bound)) and the group's r*."""
    parts = [(_over_the_box(block, scalar, bound), vector) for bound, vector in sides(block, ZV)]
    group = sympy.Add(*(total(formula, Z, vector, block.radial) for formula, vector in parts))
    return Conjugate(
        parts[0][0], None if block.lower is None else parts[1][0], sympy.Max(0, group - block.price, evaluate=False)
    )


def _over_the_box(block: IndicatorBlock, scalar: ScalarCalculus, bound: sympy.Expr | None) -> sympy.Expr:
    s = block.weight
    if bound == 0:
        return sympy.Integer(0)
    cases = []
    free = scalar.conjugate
    if free is None:  # no closed form: phi*(z) = L(s) at the s with phi'(s) = z, written s(z)
        free = scalar.legendre.subs(s, sympy.Function("s", positive=True)(Z))
        if scalar.steepest != sympy.oo:
            free = sympy.Piecewise((free, Z < scalar.steepest), (sympy.oo, True))
    if scalar.slope_at_zero != 0:
        cases.append((sympy.Integer(0), Z <= scalar.slope_at_zero))
    if bound is None:
        cases.append((free, True))
    else:
        if scalar.legendre != 0:
            cases.append((free, Z <= scalar.slope.subs(s, bound)))
        cases.append((bound * Z - block.cost.subs(s, bound), True))
    return sympy.Piecewise(*cases)
