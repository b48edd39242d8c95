"""Hyperbolic cosine: like a quadratic near zero, and far steeper than any power for large weights."""

import sympy

from perspective.block import IndicatorBlock


def hyperbolic() -> IndicatorBlock:
    """alpha (cosh(s) - 1) with price c and no box: y* has no closed form; the one-dimensional equation is solved."""
    s, alpha, c = sympy.symbols("s alpha c", positive=True)
    return IndicatorBlock(cost=alpha * (sympy.cosh(s) - 1), weight=s, price=c)
