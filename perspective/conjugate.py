"""The conjugate of the projected regulariser: what every certified dual bound needs.

r*(z) = sup_w z.w - r(w) = sup over y in [0, 1] of y (sum_k phi*(z_k) - price) = max(0, sum_k phi*(|z_k|) - price),
with phi* taken over the box. Hence 0 minimises a loss plus tau r exactly where sum_k phi*(-g_k / tau) <= price. A radial
cost in a box has no such sum: there h*, of the whole group, stands for it (`radial_box.py`).
"""

from dataclasses import dataclass

import sympy

from perspective.block import IndicatorBlock
from perspective.norms import sides, total
from perspective.piecewise import at_most, cases_of
from perspective.radial_box import RATIO, ratio_equation, slope_over_size, supremum
from perspective.scalar import ScalarCalculus, Z

ZV = sympy.Symbol("z")


@dataclass(frozen=True)
class Conjugate:
    """scalar: phi*(z), z = |z_k|, with slope cut-off and box (s(z) solves phi'(s) = z where that has no closed form).

    negative: the same for z_k < 0 where the box has another side there, else None. group: the conjugate r*.
    ratio, same_ratio: only for a radial cost in a box: a function that grows with u, its root is the u in `group`; or u
    itself where that is the same for every z.
    """

    scalar: sympy.Expr
    negative: sympy.Expr | None
    group: sympy.Expr
    ratio: sympy.Expr | None = None
    same_ratio: sympy.Expr | None = None


def conjugate(block: IndicatorBlock, scalar: ScalarCalculus) -> Conjugate:
    """Assemble phi* with the box (linear beyond z = phi'(bound)) and the group's r*."""
    parts = [(_over_the_box(block, scalar, bound), vector) for bound, vector in sides(block, ZV)]
    if block.joined_by_norm:
        same = slope_over_size(block, scalar)
        whole = supremum(block, scalar, ZV, RATIO if same is None else same, sympy.Integer(1))
        ratio = ratio_equation(block, scalar, ZV) if same is None else None
        return Conjugate(parts[0][0], None, sympy.Max(0, whole - block.price, evaluate=False), ratio, same)
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
            # the box ends before the steepest slope: no case is infinite, and the last one needs no other condition
            finite = [case for case in cases_of(free) if case[0] != sympy.oo]
            in_box = at_most(Z, scalar.slope.subs(s, bound))
            *inner, (last, _) = finite or [(free, in_box)]  # none: the cost is not convex, which its numbers will show
            cases += [(value, sympy.And(condition, in_box)) for value, condition in inner] + [(last, in_box)]
        cases.append((bound * Z - block.cost.subs(s, bound), True))
    return sympy.Piecewise(*cases)
