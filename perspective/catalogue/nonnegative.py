"""Elastic cost on nonnegative weights, as in nonnegative least squares and mixtures."""

import sympy

from perspective.block import IndicatorBlock


def nonnegative() -> IndicatorBlock:
    """alpha s^2 + beta s with price c and 0 <= w_k <= M: a negative weight is outside the box."""
    s, alpha, beta, c, bound = sympy.symbols("s alpha beta c M", positive=True)
    return IndicatorBlock(cost=alpha * s**2 + beta * s, weight=s, price=c, bound=bound, lower=sympy.Integer(0))
