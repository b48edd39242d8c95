"""What is true of a derived regulariser, proved by sympy where a line says so: convexity, continuity, C1, zero, limits."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sympy

from perspective.norms import norm, share_of_box, total
from perspective.piecewise import segments
from perspective.projection import C
from perspective.relaxation import W
from perspective.scalar import Y

if TYPE_CHECKING:
    from perspective.regularizer import Regularizer


@dataclass(frozen=True)
class Statement:
    """One claim about r. proved: sympy reduced it to an identity or a known sign; else `check_laws` is what speaks for it."""

    name: str
    claim: str
    proved: bool


def prove(regularizer: "Regularizer") -> tuple[Statement, ...]:
    """Convexity, continuity, differentiability, the subdifferential at zero, the recession slope and the limits of r."""
    r = regularizer
    convex = _cost_is_convex(r)
    return (
        Statement(
            "convex",
            r"$\varphi'' \ge 0$, so $y\,\varphi(w/y)$ is jointly convex and $r$, its minimum over $y$, is convex",
            convex,
        ),
        Statement(
            "continuous",
            r"each case is $P(w, y^*)$ with the $y^*$ of its row, and $y^* = \min(1, \max(\cdot))$ has no jumps",
            _cases_are_the_perspective(r),
        ),
        Statement(
            "continuously differentiable",
            r"$\partial P / \partial y = 0$ at the free $y^*$, so the gradient is $\partial P / \partial w$ there and does not "
            "jump between the cases; the exceptions are $w = 0$"
            + ("" if r.projection.smallest == 0 else ", and ties for the largest share of the box"),
            _stationary_is_stationary(r),
        ),
        Statement("subdifferential at zero", f"$\\partial r(0) = \\{{z : {_zero_set(r)}\\}}$", True),
        Statement("growth", _growth(r), True),
        *_limits(r),
    )


def _cost_is_convex(r: "Regularizer") -> bool:
    s = r.block.weight
    parts = segments(r.block.cost, s)
    slopes = [sympy.diff(part.formula, s) for part in parts]
    curved = all(_is_nonnegative(sympy.diff(slope, s), s) for slope in slopes)
    rising = all(
        sympy.simplify(after.subs(s, part.high) - before.subs(s, part.high)).is_nonnegative
        for part, before, after in zip(parts, slopes, slopes[1:], strict=False)
    )
    return curved and rising


def _is_nonnegative(expression: sympy.Expr, s: sympy.Symbol) -> bool:
    for form in (sympy.simplify, sympy.factor, sympy.together):
        if form(expression).is_nonnegative:
            return True
    # cosh and its like: nonnegative at zero and increasing
    return bool(expression.rewrite(sympy.exp).is_positive or sympy.simplify(expression).is_positive)


def _cases_are_the_perspective(r: "Regularizer") -> bool:
    """Every case's value, as printed, against P at the y of its row (its closure at y = 0)."""
    closure = (
        total(r.scalar.steepest * r.block.weight, r.block.weight, W, r.block.radial) if r.block.bound is None else None
    )
    return all(
        _is_zero(
            _abstract(p.value, r) - (closure if p.indicator == 0 else _free_price(r).subs(Y, _abstract(p.indicator, r)))
        )
        for p in r.pieces
    )


def _is_zero(difference: sympy.Expr) -> bool:
    """Whether it simplifies to zero; a price such as 1 - alpha is positive, which sympy must be told."""
    for name in sorted(x.name for x in difference.free_symbols):
        below_one = sympy.Symbol(name, positive=True)
        if difference.has(sympy.sqrt(1 - below_one)) or difference.has(1 - below_one):
            difference = difference.subs(below_one, 1 / (1 + sympy.Symbol("q", positive=True)))
    return sympy.simplify(sympy.expand(difference)) == 0


def _stationary_is_stationary(r: "Regularizer") -> bool:
    stationary = r.projection.stationary
    if stationary is None or stationary == 0:
        return True  # y_0 is the root by definition, or the perspective only grows with y
    return _is_zero(sympy.diff(_free_price(r), Y).subs(Y, _abstract(stationary, r)))


def _free_price(r: "Regularizer") -> sympy.Expr:
    """P with one positive symbol for the price: what holds for every price holds for this one, and is quicker to see."""
    return r.relaxation.perspective - r.block.price * Y + _abstract(r.block.price, r) * Y


def _abstract(expression: sympy.Expr, r: "Regularizer") -> sympy.Expr:
    return expression.subs(r.block.price, C) if r.block.price.free_symbols else expression


def _zero_set(r: "Regularizer") -> str:
    group = sympy.Add(*r.dual.group.args[1:]) if isinstance(r.dual.group, sympy.Max) else r.dual.group
    terms = sympy.simplify(group + r.block.price) if not group.has(sympy.Sum) else group + r.block.price
    where = "" if r.dual.ratio is None else f",\\; u : {sympy.latex(r.dual.ratio)} = 0"
    return f"{sympy.latex(terms)} \\le {sympy.latex(r.block.price)}{where}"


def _growth(r: "Regularizer") -> str:
    if r.block.bound is not None:
        return r"$r$ is finite in its box only"
    if r.scalar.steepest == sympy.oo:
        return r"$r(tw)/t \to \infty$: faster than any line"
    slope = total(r.scalar.steepest * r.block.weight, r.block.weight, W, r.block.radial)
    return f"$r(tw)/t \\to {sympy.latex(slope)}$"


def _limits(r: "Regularizer") -> list[Statement]:
    """bound -> oo and price -> 0, from the formulas of y*: its box share vanishes, its free root passes 1."""
    found = []
    s, stationary = r.block.weight, r.projection.stationary
    if isinstance(r.block.bound, sympy.Symbol) and r.block.lower is None:
        share = share_of_box(r.block, W).replace(norm, lambda *_: sympy.Symbol("S", positive=True))
        gone = sympy.limit(share, r.block.bound, sympy.oo) == 0
        found.append(
            Statement("no box", f"${sympy.latex(r.block.bound)} \\to \\infty$: the box's case disappears", gone)
        )
    if stationary is not None and stationary != 0:
        whole = sympy.latex(total(r.block.cost, s, W, r.block.radial))
        grows = sympy.limit(_abstract(stationary, r), C, 0, "+") == sympy.oo
        found.append(Statement("free groups", f"price $\\to 0$: $r \\to {whole}$, no group is ever shared", grows))
    return found
