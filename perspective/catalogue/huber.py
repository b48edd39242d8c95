"""Huber cost: quadratic up to d, linear beyond, so that outliers among the weights are not punished twice over."""

import sympy

from perspective.block import IndicatorBlock


def huber(bounded: bool = True) -> IndicatorBlock:
    """alpha s^2 up to d, then its tangent, with price c: y* has no closed form. Without a box the price may stay unpaid."""
    s, alpha, d, c, bound = sympy.symbols("s alpha d c M", positive=True)
    cost = sympy.Piecewise((alpha * s**2, s <= d), (2 * alpha * d * s - alpha * d**2, True))
    return IndicatorBlock(cost=cost, weight=s, price=c, bound=bound if bounded else None)
