"""Radial costs in a box, and the numbers and groups on which the tests try them."""

import numpy as np
import sympy

from perspective import IndicatorBlock, derive

s, alpha, beta, c, M = sympy.symbols("s alpha beta c M", positive=True)
NUMBERS = {"alpha": 0.3, "beta": 0.2, "c": 0.7, "M": 1.5}
COSTS = {
    "quadratic": alpha * s**2,
    "elastic": alpha * s**2 + beta * s,
    "power 3/2": alpha * s ** sympy.Rational(3, 2),
    "power 3": alpha * s**3,
    "cosh": sympy.cosh(s) - 1,
    "saturating": s**2 / (1 + s),
    "linear": alpha * s,
    "price only": sympy.Integer(0),
}
MAPS = ("value", "indicator", "conjugate", "zero_threshold")


def boxed(cost, **changes):
    return IndicatorBlock(
        **{"cost": cost, "weight": s, "price": c, "bound": M, "radial": True, "domain": "box", **changes}
    )


def bind(block, **changes):
    return derive(block).bind(**{name: {**NUMBERS, **changes}[name] for name in block.parameters})


def groups(rows=300, n=5):
    """Sizes over five orders, with zeros, ties, and a row of zeros."""
    rng = np.random.default_rng(7)
    v = rng.normal(size=(rows, n)) * 10 ** rng.uniform(-3, 2, size=(rows, 1))
    v[0], v[1:30, 2], v[30:60] = 0, 0, np.sign(v[30:60])
    return v
