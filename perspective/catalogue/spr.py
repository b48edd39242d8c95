"""Structured Perspective Regularization: quadratic cost, price 1 - alpha, box M (Cacciola, Frangioni, Li, Lodi 2023)."""

import sympy

from perspective.block import IndicatorBlock


def spr(bounded: bool = True) -> IndicatorBlock:
    """alpha s^2 with price 1 - alpha, 0 < alpha < 1; without its box it is the reverse Huber function of |w|_2."""
    s, alpha, bound = sympy.symbols("s alpha M", positive=True)
    return IndicatorBlock(cost=alpha * s**2, weight=s, price=1 - alpha, bound=bound if bounded else None)
