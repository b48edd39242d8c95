"""Project the indicator away: minimise the perspective over y; the result is the regulariser, piece by piece.

With no bound on y active, y solves sum_k L(w_k / y) = price, L(s) = s phi'(s) - phi(s) (the derivative of the
perspective in y set to zero). The box adds y >= |w|_inf / bound, and y <= 1 always holds.
"""

from dataclasses import dataclass

import sympy

from perspective.block import IndicatorBlock
from perspective.errors import InputError
from perspective.norms import norm, powers_of, total
from perspective.relaxation import Relaxation, W
from perspective.scalar import ScalarCalculus, Y

C = sympy.Symbol("c", positive=True)  # stands for the price while solving: it is positive, which 1 - alpha does not say
IMPLICIT = sympy.Symbol("y_0", positive=True)  # the root of the y-equation where it has no closed form


@dataclass(frozen=True)
class Piece:
    """One case of the regulariser: where it holds, the minimising indicator y*(w) there, and the value."""

    name: str
    condition: sympy.Basic
    indicator: sympy.Expr
    value: sympy.Expr


@dataclass(frozen=True)
class Projection:
    """How the indicator is found.

    equation    decreasing in y; its root is the y at which no bound binds
    stationary  that root in closed form; 0 where the perspective only grows with y; None where there is no closed form
    smallest    the box's lower bound on y, 0 without a box
    pieces      the cases; `y_0` in them stands for the root of `equation` where stationary is None
    """

    equation: sympy.Expr
    stationary: sympy.Expr | None
    smallest: sympy.Expr
    pieces: tuple[Piece, ...]


def project(block: IndicatorBlock, scalar: ScalarCalculus, relaxation: Relaxation) -> Projection:
    """Minimise the perspective over y in [|w|_inf / bound, 1], symbolically."""
    if scalar.legendre == 0 and block.bound is None:
        raise InputError(
            f"the cost {block.cost} is linear: without a bound the indicator can go to 0 at no cost and the price is "
            "never paid (the projection is the cost itself); give a bound, or add a strictly convex term"
        )
    s = block.weight
    slope_sum = total(sympy.expand(scalar.legendre.subs(s, s / Y)), s, W)
    stationary = _stationary_indicator(block, scalar)
    inner = IMPLICIT if stationary is None else stationary
    smallest = sympy.Integer(0) if block.bound is None else norm(W, sympy.oo) / block.bound
    boxed, free = smallest != 0, inner != 0
    one = sympy.Integer(1)
    largest = sympy.Max(smallest, inner) if boxed and free else smallest + inner
    cases = [("kept whole", sympy.Ge(largest, 1), one)]
    if free:
        cases.append(("shared", sympy.And(smallest <= inner, inner < 1) if boxed else inner < 1, inner))
    if boxed:
        cases.append(("held by the box", sympy.And(inner < smallest, smallest < 1) if free else smallest < 1, smallest))
    pieces = tuple(Piece(name, condition, y, _value_at(relaxation, block, y)) for name, condition, y in cases)
    return Projection(slope_sum - block.price, stationary, smallest, pieces)


def _value_at(relaxation: Relaxation, block: IndicatorBlock, y: sympy.Expr) -> sympy.Expr:
    """The perspective at y, tidied while the price is still one positive symbol."""
    abstract = relaxation.perspective - block.price * Y + C * Y
    y = y.subs(block.price, C) if block.price.free_symbols else y
    return sympy.collect(sympy.expand(sympy.powsimp(sympy.expand(abstract.subs(Y, y)))), C).subs(C, block.price)


def _stationary_indicator(block: IndicatorBlock, scalar: ScalarCalculus) -> sympy.Expr | None:
    if scalar.legendre == 0:
        return sympy.Integer(0)
    powers = powers_of(scalar.legendre, block.weight)
    if powers is None:
        return None
    if len(powers) == 1:
        ((p, coefficient),) = powers.items()
        return norm(W, p) * (coefficient / block.price) ** (1 / p)
    if len(powers) != 2 or not all(coefficient.is_positive for coefficient in powers.values()):
        return None
    low, high = sorted(powers, key=lambda p: (not p.is_number, p if p.is_number else str(p)))
    if sympy.simplify(high - 2 * low) == 0:
        # with x = y^-low: high_coefficient x^2 + low_coefficient x = price, and x > 0
        b, a = powers[low] * norm(W, low) ** low, powers[high] * norm(W, high) ** high
        return ((b + sympy.sqrt(b**2 + 4 * a * block.price)) / (2 * block.price)) ** (1 / low)
    return None
