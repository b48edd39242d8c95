"""From the declaration to the two relaxations of one group: big-M, and the perspective (the convex hull)."""

from dataclasses import dataclass

import sympy

from perspective.block import IndicatorBlock
from perspective.norms import share_of_box, total
from perspective.scalar import ScalarCalculus, Y

W = sympy.Symbol("w")


@dataclass(frozen=True)
class Relaxation:
    """The group's terms in the objective.

    big_m            sum_k phi(w_k) + price y, with |w_k| <= bound y and y in [0, 1] (y in {0, 1}: the exact program)
    big_m_projected  its minimum over y: y = |w|_inf / bound, or y = 0 without a box
    perspective      y sum_k phi(w_k / y) + price y for y in (0, 1]
    recession        lim phi(s)/s as s -> oo: the slope of the perspective's closure at y = 0 (oo: only w = 0 is left)
    """

    big_m: sympy.Expr
    big_m_projected: sympy.Expr
    perspective: sympy.Expr
    recession: sympy.Expr


def relax(block: IndicatorBlock, scalar: ScalarCalculus) -> Relaxation:
    """Write both relaxations and compute the closure of the perspective at y = 0 (Frangioni and Gentile 2006)."""
    s = block.weight
    cost = total(block.cost, s, W, block.radial)
    share = share_of_box(block, W)
    scaled = total(sympy.expand(Y * block.cost.subs(s, s / Y)), s, W, block.radial)
    return Relaxation(
        big_m=cost + block.price * Y,
        big_m_projected=cost + block.price * share,
        perspective=scaled + block.price * Y,
        recession=scalar.steepest,
    )
