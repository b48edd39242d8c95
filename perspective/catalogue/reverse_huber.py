"""Quadratic cost with any price and no box: the reverse Huber (berHu) function of the group's Euclidean norm."""

import sympy

from perspective.block import IndicatorBlock


def reverse_huber() -> IndicatorBlock:
    """alpha s^2 with price c: r = 2 sqrt(alpha c) |w|_2 up to |w|_2 = sqrt(c / alpha), then alpha |w|_2^2 + c."""
    s, alpha, c = sympy.symbols("s alpha c", positive=True)
    return IndicatorBlock(cost=alpha * s**2, weight=s, price=c)
