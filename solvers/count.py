"""At most k groups: how a relaxation shares k indicators among its groups, through one more price that all pay.

    min over y in [0, 1], sum_j y_j <= k  of  sum_j P(w_j, y_j)  =  max over extra >= 0 of  sum_j r_{price + extra}(w_j) - extra k

r_{price + extra} is the projected regulariser of the same block at a higher price, derived, not written.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy
from numpy.typing import NDArray

from perspective import IndicatorBlock, Regularizer, derive

if TYPE_CHECKING:
    from solvers.problem import Regulariser

Array = NDArray[np.float64]
DEAREST = 1e40  # times the price: beyond it no extra price brings the sum of indicators down
BISECTIONS = 200
SLACK = 1e-12  # relative, for rounding


def share_count(regulariser: "Regulariser", vectors: Array, count: int) -> Array | None:
    """The cheapest y (p,) in [0, 1] for the groups' vectors (p, n) that sums to at most `count`; None where none fits.

    The box asks y_j >= max_k |w_jk| / M, so the vectors may need more than count.
    """
    y, fits = np.asarray(regulariser.indicator(vectors)), count * (1 + SLACK)  # the box alone may ask for all of it
    if np.sum(y) <= fits:
        return y
    dear = raise_price(regulariser)

    def shared(extra: float) -> Array:
        return np.asarray(dear(extra).indicator(vectors))

    low, high = 0.0, regulariser.price
    while np.sum(shared(high)) > fits:
        low, high = high, 4 * high
        if high > DEAREST * regulariser.price:
            return None
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        if not low < middle < high or high - low <= 1e-15 * high:
            break
        low, high = (middle, high) if np.sum(shared(middle)) > fits else (low, middle)
    return shared(high)


def raise_price(regulariser: "Regulariser") -> Callable[[float], "Regulariser"]:
    """extra >= 0 -> the same block bound to the same numbers, at price + extra."""
    derived, name = _price_as_symbol(regulariser.regularizer.block)
    numbers: dict[str, Any] = {
        key: value for key, value in regulariser.parameters.items() if key in derived.block.parameters
    }
    return lambda extra: derived.bind(**numbers, **{name: regulariser.price + extra})


@lru_cache(maxsize=16)
def _price_as_symbol(block: IndicatorBlock) -> tuple[Regularizer, str]:
    name = "price"
    while name in block.parameters:
        name += "_"
    return derive(replace(block, price=sympy.Symbol(name, positive=True))), name
