"""Project the indicator away: minimise the perspective over y; the result is the regulariser, piece by piece.

With no bound on y active, y solves sum_k L(w_k / y) = price, L(s) = s phi'(s) - phi(s) (the derivative of the
perspective in y set to zero). The box adds y >= |w|_inf / bound, and y <= 1 always holds.
Where phi grows no faster than a line and there is no box, the sum can stay below the price for every y > 0: then y* = 0
though w != 0, the price is not paid, and r is the recession function.
"""

from dataclasses import dataclass

import sympy

from perspective.block import IndicatorBlock
from perspective.norms import gather_sums, norm, powers_of, share_of_box, total
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
    s = block.weight
    slope_sum = total(sympy.expand(scalar.legendre.subs(s, s / Y)), s, W, block.radial)
    stationary = _stationary_indicator(block, scalar)
    inner = IMPLICIT if stationary is None else stationary
    smallest = share_of_box(block, W)
    boxed, free = smallest != 0, inner != 0
    one = sympy.Integer(1)
    largest = sympy.Max(smallest, inner) if boxed and free else smallest + inner
    count = sympy.Integer(1) if block.radial else norm(W, 0)
    unpaid = block.bound is None and scalar.steepest != sympy.oo
    cases = [("kept whole", sympy.Ge(largest, 1), one)] if largest != 0 else []
    if free:
        condition = sympy.And(smallest <= inner, inner < 1) if boxed else inner < 1
        if unpaid:
            condition = sympy.And(condition, scalar.legendre_top * count > block.price)
        cases.append(("shared", condition, inner))
    if boxed:
        cases.append(("held by the box", sympy.And(inner < smallest, smallest < 1) if free else smallest < 1, smallest))
    two = stationary is not None and len(powers_of(slope_sum, Y) or {}) == 2
    pieces = tuple(
        Piece(
            *(name, condition, y),
            _value_at_root(relaxation, block, slope_sum, y)
            if two and y == stationary
            else _value_at(relaxation, block, y),
        )
        for name, condition, y in cases
    )
    if unpaid:
        condition = scalar.legendre_top * count <= block.price
        pieces += (Piece("price unpaid", condition, sympy.Integer(0), scalar.steepest * total(s, s, W, block.radial)),)
    return Projection(slope_sum - block.price, stationary, smallest, pieces)


def _value_at(relaxation: Relaxation, block: IndicatorBlock, y: sympy.Expr) -> sympy.Expr:
    """The perspective at y, tidied while the price is still one positive symbol."""
    abstract = relaxation.perspective - block.price * Y + C * Y
    y = y.subs(block.price, C) if block.price.free_symbols else y
    value = sympy.collect(sympy.expand(sympy.powsimp(sympy.expand(abstract.subs(Y, y)))), C).subs(C, block.price)
    return gather_sums(value)


def _value_at_root(relaxation: Relaxation, block: IndicatorBlock, slope_sum: sympy.Expr, y: sympy.Expr) -> sympy.Expr:
    """The perspective at the y where two powers balance the price: that balance takes the place of the higher power."""
    high = max(-exponent for exponent in powers_of(slope_sum, Y) or {})
    abstract = relaxation.perspective - block.price * Y + C * Y
    reduced = sympy.collect(sympy.expand(abstract - Y * (slope_sum - C) / (high - 1)), Y)
    return reduced.subs(Y, y).subs(C, block.price)


def _stationary_indicator(block: IndicatorBlock, scalar: ScalarCalculus) -> sympy.Expr | None:
    if scalar.legendre == 0:
        return sympy.Integer(0)
    powers = powers_of(scalar.legendre, block.weight)
    if powers is None:
        return None
    if len(powers) == 1:
        ((p, coefficient),) = powers.items()
        return norm(W, 2 if block.radial else p) * (coefficient / block.price) ** (1 / p)
    if len(powers) != 2 or not all(coefficient.is_positive for coefficient in powers.values()):
        return None
    low, high = sorted(powers, key=lambda p: (not p.is_number, p if p.is_number else str(p)))
    if sympy.simplify(high - 2 * low) == 0:
        # with x = y^-low: high_coefficient x^2 + low_coefficient x = price, and x > 0
        first, second = (norm(W, 2 if block.radial else p) for p in (low, high))
        b, a = powers[low] * first**low, powers[high] * second**high
        return (((b + sympy.sqrt(b**2 + 4 * a * C)) / (2 * C)) ** (1 / low)).subs(C, block.price)
    return None
