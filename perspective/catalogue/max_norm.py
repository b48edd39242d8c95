"""Pure price with a box: the group's maximum norm, the convex envelope of the price alone."""

import sympy

from perspective.block import IndicatorBlock


def max_norm() -> IndicatorBlock:
    """No cost, price c, box M: r = c |w|_inf / M."""
    s, c, bound = sympy.symbols("s c M", positive=True)
    return IndicatorBlock(cost=sympy.Integer(0), weight=s, price=c, bound=bound)
