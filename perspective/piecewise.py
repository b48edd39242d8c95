"""Costs written in pieces: their segments, and limits that pick the right one."""

from dataclasses import dataclass
from itertools import pairwise

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


def refuse_broken(cost: sympy.Expr, s: sympy.Symbol) -> None:
    """InputError where the cases do not ascend, or the cost certainly jumps from one case to the next."""
    parts = segments(cost, s)
    for before, after in pairwise(parts):
        if (before.high - before.low).is_nonpositive:
            raise InputError(
                f"the case up to {s} = {before.high} comes too late; write the Piecewise with ascending cases"
            )
        jump = sympy.simplify(after.formula.subs(s, before.high) - before.formula.subs(s, before.high))
        if jump.is_nonzero:
            raise InputError(f"the cost is not convex: it jumps by {jump} at {s} = {before.high}; make its cases meet")


def on_segment(expression: sympy.Expr, s: sympy.Symbol, high: sympy.Expr) -> sympy.Expr:
    """The formula of `expression` on the segment of the cost that ends at `high`; neighbours may have merged."""
    for segment in segments(expression, s):
        if segment.high in (high, sympy.oo):
            return segment.formula
    raise AssertionError("the expression has fewer segments than the cost")


def cases_of(expression: sympy.Expr) -> tuple[tuple[sympy.Expr, sympy.Basic], ...]:
    """(value, condition) of each case, the last condition true; a single one where there are no cases."""
    folded = sympy.piecewise_fold(expression)
    if not isinstance(folded, sympy.Piecewise):
        return ((folded, sympy.true),)
    return tuple((case.expr, case.cond) for case in folded.args)


def at_most(variable: sympy.Expr, limit: sympy.Expr) -> sympy.Basic:
    """variable <= limit; a limit in cases gives "or" of "and"s, where sympy's substitution would nest if-then-else."""
    found, before = [], sympy.false
    for value, condition in cases_of(limit):
        found.append(sympy.And(condition, sympy.Not(before), variable <= value))
        before = sympy.Or(before, condition)
    return sympy.Or(*found)


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
