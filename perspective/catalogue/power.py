"""Power cost with a fixed exponent: r is proportional to the group's p-norm near zero."""

import sympy

from perspective.block import IndicatorBlock

THREE_HALVES = sympy.Rational(3, 2)


def power(exponent: sympy.Rational = THREE_HALVES) -> IndicatorBlock:
    """alpha s^p with price c and no box, p > 1: y = |w|_p ((p - 1) alpha / c)^(1/p)."""
    s, alpha, c = sympy.symbols("s alpha c", positive=True)
    return IndicatorBlock(cost=alpha * s**exponent, weight=s, price=c)
