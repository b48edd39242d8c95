"""Numbers of a trained layer's program: ridge, box, and the price of a channel, given directly or by a count.

    min  ||X W - Y||^2 + ridge ||W||^2 + charge * #channels,   |w| <= M        (strength = charge, cost alpha s^2, price 1)

ridge  1e-4 of the Gram matrix's mean diagonal: fixes the scale of directions the samples do not show
M      three times the largest weight of the ridge solution with all channels
charge "price": a share of ||Y||^2; "keep" k channels: (f(k-1) - f(k+1)) / 2 with f the values of the greedy path, the price at
       which that path passes from k-1 to k+1 channels; "at most" k: a constraint, and a charge too small to matter
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from perspective import declare, derive
from perspective.errors import InputError
from solvers.elimination import Nested, eliminate
from solvers.problem import LayerProblem

RIDGE, BOX_SCALE = 1e-4, 3.0
NEGLIGIBLE = 1e-6  # "at most": all charges together, as a share of the greedy value at that count
SMALLEST = 1e-9  # of ||Y||^2: the charge where the greedy path is flat (channels that carry nothing)


@dataclass(frozen=True)
@final
class Ask:
    """Exactly one of: keep (a share < 1 or a whole number of channels), at_most (the same), price (share of ||Y||^2).

    ridge is relative to the Gram matrix's mean diagonal; bound is M itself; None: as the module says.
    """

    keep: float | None = None
    at_most: float | None = None
    price: float | None = None
    ridge: float | None = None
    bound: float | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("keep", "at_most", "price") if getattr(self, name) is not None]
        if len(given) != 1:
            raise InputError(f"give exactly one of keep, at_most and price, not {' and '.join(given) or 'none'}")
        for name in ("keep", "at_most", "price", "ridge", "bound"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise InputError(f"{name} is {value}; it must be a positive number")
        for name in ("keep", "at_most"):
            value = getattr(self, name)
            if value is not None and value >= 1 and value != int(value):
                raise InputError(f"{name} is {value}; give a share below 1 or a whole number of channels")


@dataclass(frozen=True, eq=False)
@final
class PricedLayer:
    """The program and where its numbers come from. count: channels asked for, or None (a price was given); greedy: the
    nested choices of backward elimination; ridge, charge, bound: absolute; notes: what a reader must know."""

    problem: LayerProblem
    count: int | None
    at_most: bool
    ridge: float
    charge: float
    bound: float
    greedy: Nested
    notes: tuple[str, ...]


def price_layer(inputs: ArrayLike, targets: ArrayLike, groups: ArrayLike, ask: Ask) -> PricedLayer:
    """The layer's program. InputError where the data make no sense, a count is too large, or the outputs are all zero."""
    regulariser = derive(declare("alpha*s**2", price="1", bound="M"))
    data = LayerProblem(inputs, targets, groups, regulariser.bind(alpha=1.0, M=1.0), 1.0)  # checks the data
    X, Y, p = data.X, data.targets2d, data.n_groups
    squares = float(np.sum(Y**2))
    mean = float(np.mean(np.sum(X**2, axis=0)))
    if not (squares > 0 and mean > 0):
        raise InputError(
            "the layer's inputs or outputs are all zero on these samples; take other images, or leave it out"
        )
    ridge = (RIDGE if ask.ridge is None else ask.ridge) * mean
    greedy = eliminate(X, Y, data.labels, ridge)
    notes: list[str] = []
    bound = ask.bound
    if bound is None:
        whole = np.linalg.solve(X.T @ X + ridge * np.eye(X.shape[1]), X.T @ Y)
        bound = BOX_SCALE * float(np.max(np.abs(whole))) or 1.0
    count = _count(ask.keep if ask.at_most is None else ask.at_most, p)
    if count is None:
        assert ask.price is not None
        charge = ask.price * squares
    elif ask.at_most is not None:
        charge = NEGLIGIBLE * max(float(greedy.values[count]), SMALLEST * squares) / p
        notes.append(f"at most {count} channels; the charge of a channel, {charge:.3g}, is too small to matter")
    else:
        above = float(greedy.values[min(count + 1, p)])
        steps = min(count + 1, p) - (count - 1)
        charge = (float(greedy.values[count - 1]) - above) / steps
        if charge < SMALLEST * squares:
            charge = SMALLEST * squares
            notes.append(f"the greedy path is flat at {count} channels, so the charge is {SMALLEST:g} of ||Y||^2")
    problem = LayerProblem(
        X,
        data.Y,
        groups,
        regulariser.bind(alpha=ridge / charge, M=bound),
        charge,
        at_most=None if ask.at_most is None else count,
    )
    return PricedLayer(problem, count, ask.at_most is not None, ridge, charge, bound, greedy, tuple(notes))


def _count(asked: float | None, p: int) -> int | None:
    if asked is None:
        return None
    count = max(1, round(asked * p)) if asked < 1 else int(asked)
    if count > p:
        raise InputError(f"{count} channels were asked for, the layer has {p}; ask for fewer")
    return count
