"""Elastic cost: the sparse group lasso near zero, with a price that saturates."""

import sympy

from perspective.block import IndicatorBlock


def elastic(bounded: bool = True) -> IndicatorBlock:
    """alpha s^2 + beta s with price c: r = beta |w|_1 + 2 sqrt(alpha c) |w|_2 near zero."""
    s, alpha, beta, c, bound = sympy.symbols("s alpha beta c M", positive=True)
    return IndicatorBlock(cost=alpha * s**2 + beta * s, weight=s, price=c, bound=bound if bounded else None)
