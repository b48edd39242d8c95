"""Linear cost with a price: the lasso plus the group's maximum norm."""

import sympy

from perspective.block import IndicatorBlock


def linear() -> IndicatorBlock:
    """alpha s with price c and box M: r = alpha |w|_1 + c |w|_inf / M. Without the box the price would never be paid."""
    s, alpha, c, bound = sympy.symbols("s alpha c M", positive=True)
    return IndicatorBlock(cost=alpha * s, weight=s, price=c, bound=bound)
