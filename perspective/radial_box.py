"""A radial cost phi(|w|_2) in a box |w_k| <= M: its symbolic pieces, all in one number u that joins the group's weights.

The maximiser of z.w - phi(|w|_2) in the box is w_k = sign(z_k) min(|z_k|/u, M), u = phi'(rho)/rho, rho = |w|_2 (the
Karush-Kuhn-Tucker conditions). u rho = |min(|z|, M u)|_2 grows with u and phi'(rho) falls, so u is unique, and
    h*(z) = L(rho) + M sum_k max(|z_k| - M u, 0),   L(rho) = rho phi'(rho) - phi(rho);
h* = 0 where |z|_2 <= phi'(0+). In the prox u becomes q, with q rho = y rho + tau phi'(rho) and |v_k| in the place of |z_k|.
"""

import sympy

from perspective.block import IndicatorBlock
from perspective.norms import K, N, norm
from perspective.scalar import ScalarCalculus

RATIO = sympy.Symbol("u", positive=True)
SCALED_RATIO = sympy.Symbol("q", positive=True)


def clipped_norm(block: IndicatorBlock, vector: sympy.Symbol, ratio: sympy.Expr) -> sympy.Expr:
    """rho: the Euclidean norm of min(|vector_k| / ratio, M)."""
    return sympy.sqrt(sympy.Sum(sympy.Min(_element(vector) / ratio, block.bound) ** 2, (K, 1, N)))


def slope_over_size(block: IndicatorBlock, scalar: ScalarCalculus) -> sympy.Expr | None:
    """u where it is the same for every rho, as for phi = a s^2; else None."""
    ratio = sympy.simplify(scalar.slope / block.weight)
    return None if ratio.has(block.weight) else ratio


def supremum(
    block: IndicatorBlock, scalar: ScalarCalculus, vector: sympy.Symbol, ratio: sympy.Expr, step: sympy.Expr
) -> sympy.Expr:
    """L(rho) + M/step sum_k max(|vector_k| - M ratio, 0), and 0 where |vector|_2 <= step phi'(0+)."""
    held = sympy.Sum(sympy.Max(0, _element(vector) - block.bound * ratio), (K, 1, N))
    curved = scalar.legendre.has(block.weight)
    body = scalar.legendre.subs(block.weight, clipped_norm(block, vector, ratio)) if curved else scalar.legendre
    inside = body + block.bound * held / step
    if scalar.slope_at_zero == 0:
        return inside
    return sympy.Piecewise((sympy.Integer(0), norm(vector, 2) <= step * scalar.slope_at_zero), (inside, True))


def ratio_equation(block: IndicatorBlock, scalar: ScalarCalculus, vector: sympy.Symbol) -> sympy.Expr:
    """Its root is u: u rho - phi'(rho), increasing in u."""
    rho = clipped_norm(block, vector, RATIO)
    return RATIO * rho - scalar.slope.subs(block.weight, rho)


def _element(vector: sympy.Symbol) -> sympy.Expr:
    return sympy.Abs(sympy.IndexedBase(vector.name)[K])
