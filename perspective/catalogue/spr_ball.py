"""Structured Perspective Regularization with a Euclidean ball for the box: every formula depends on |w|_2 only."""

import sympy

from perspective.block import IndicatorBlock


def spr_ball() -> IndicatorBlock:
    """alpha |w|_2^2 with price 1 - alpha in the ball |w|_2 <= M: no case depends on the largest weight."""
    s, alpha, bound = sympy.symbols("s alpha M", positive=True)
    return IndicatorBlock(cost=alpha * s**2, weight=s, price=1 - alpha, bound=bound, radial=True)
