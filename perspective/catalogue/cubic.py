"""Cubic cost: the group's 3-norm near zero, which is nearer to its maximum norm than the Euclidean norm is."""

import sympy

from perspective.block import IndicatorBlock


def cubic() -> IndicatorBlock:
    """alpha s^3 with price c and box M: y = |w|_3 (2 alpha / c)^(1/3) where the box does not hold it."""
    s, alpha, c, bound = sympy.symbols("s alpha c M", positive=True)
    return IndicatorBlock(cost=alpha * s**3, weight=s, price=c, bound=bound)
