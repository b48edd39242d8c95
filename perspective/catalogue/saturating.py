"""Saturating slope: quadratic near zero, linear for large weights, smooth everywhere."""

import sympy

from perspective.block import IndicatorBlock


def saturating() -> IndicatorBlock:
    """alpha s^2 / (1 + s) with price c and box M: a smooth relative of the Huber cost."""
    s, alpha, c, bound = sympy.symbols("s alpha c M", positive=True)
    return IndicatorBlock(cost=alpha * s**2 / (1 + s), weight=s, price=c, bound=bound)
