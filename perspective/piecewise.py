"""Costs written in pieces: their segments, and limits that pick the right one."""

from dataclasses import dataclass

import sympy

from perspective.errors import InputError


@dataclass(frozen=True)
class Segment:
    """One formula of the cost, valid for low <= s <= high (high may be oo)."""

    formula: sympy.Expr
    low: sympy.Expr
    high: sympy.Expr


def segments(cost: sympy.Expr, s: sympy.Symbol) -> tuple[Segment, ...]:
    """The cost's segments from 0 upward; InputError where a Piecewise is not written with s <= d, ascending."""
    if not isinstance(cost, sympy.Piecewise):
        return (Segment(cost, sympy.Integer(0), sympy.oo),)
    found: list[Segment] = []
    low: sympy.Expr = sympy.Integer(0)
    for formula, condition in cost.args:
        high = sympy.oo if condition == sympy.true else _right_end(condition, s)
        found.append(Segment(formula, low, high))
        low = high
    if low != sympy.oo:
        raise InputError(f"the cost {cost} does not say what it is for large {s}; end the Piecewise with a True case")
    return tuple(found)


def limit_at_zero(expression: sympy.Expr, s: sympy.Symbol) -> sympy.Expr:
    """Limit for s -> 0+; InputError where sympy cannot tell."""
    return _limit(_branch(expression, s, sympy.Integer(0)), s, sympy.Integer(0), "+")


def limit_at_infinity(expression: sympy.Expr, s: sympy.Symbol) -> sympy.Expr:
    """Limit for s -> oo; InputError where sympy cannot tell."""
    return _limit(_branch(expression, s, sympy.oo), s, sympy.oo, "-")


def _limit(expression: sympy.Expr, s: sympy.Symbol, point: sympy.Expr, side: str) -> sympy.Expr:
    try:
        return sympy.limit(expression, s, point, side)
    except NotImplementedError as error:
        raise InputError(
            f"sympy cannot tell how {expression} behaves for {s} -> {point}; give exponents numbers, or write them as 1 + q"
        ) from error


def _branch(expression: sympy.Expr, s: sympy.Symbol, point: sympy.Expr) -> sympy.Expr:
    folded = sympy.piecewise_fold(expression)
    if not isinstance(folded, sympy.Piecewise):
        return folded
    return folded.args[0][0] if point == 0 else folded.args[-1][0]


def _right_end(condition: sympy.Basic, s: sympy.Symbol) -> sympy.Expr:
    if isinstance(condition, sympy.Le | sympy.Lt) and condition.lhs == s and s not in condition.rhs.free_symbols:
        return condition.rhs
    if isinstance(condition, sympy.Ge | sympy.Gt) and condition.rhs == s and s not in condition.lhs.free_symbols:
        return condition.lhs
    raise InputError(
        f"cannot read the case {condition}; write the Piecewise with ascending conditions {s} <= d, then True"
    )
