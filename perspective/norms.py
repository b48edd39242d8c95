"""Symbolic norms of one group, and the rule that turns a sum over the group's weights into them."""

from typing import Any

import sympy

from perspective.block import IndicatorBlock

K, N = sympy.Symbol("k", integer=True, positive=True), sympy.Symbol("n", integer=True, positive=True)


class norm(sympy.Function):  # noqa: N801  (printed in formulas, so it carries its mathematical name)
    """norm(w, p) = (sum_k |w_k|^p)^(1/p); p = oo: the largest |w_k|; p = 0: how many are not zero.

    Positive by assumption (w = 0 is treated apart).
    """

    nargs = 2

    def _eval_is_positive(self) -> bool:
        return True

    def _eval_is_finite(self) -> bool:
        return True

    def _latex(self, printer: Any, exp: str | None = None) -> str:
        body = rf"\lVert {printer._print(self.args[0])} \rVert_{{{printer._print(self.args[1])}}}"
        return body if exp is None else f"{body}^{{{exp}}}"


def powers_of(expression: sympy.Expr, variable: sympy.Symbol) -> dict[sympy.Expr, sympy.Expr] | None:
    """{exponent: coefficient} when `expression` is a sum of powers of `variable` (without a constant), else None."""
    found: dict[sympy.Expr, sympy.Expr] = {}
    for term in sympy.Add.make_args(sympy.expand(sympy.powsimp(sympy.expand(expression)), power_exp=False)):
        coefficient, rest = term.as_independent(variable, as_Add=False)
        base, exponent = rest.as_base_exp()
        if term == 0:
            continue
        if base != variable or exponent.has(variable):
            return None
        found[exponent] = found.get(exponent, sympy.Integer(0)) + coefficient
    return found


def total(expression: sympy.Expr, variable: sympy.Symbol, vector: sympy.Symbol, radial: bool = False) -> sympy.Expr:
    """sum_k expression(|vector_k|): through norms when it is a sum of powers, else as a sympy Sum over k = 1..n.

    radial: expression(|vector|_2), a single term.
    """
    if radial:
        return expression.subs(variable, norm(vector, 2))
    powers = powers_of(expression, variable)
    if powers is not None:
        return sympy.Add(*(c * norm(vector, p) ** p for p, c in powers.items()))
    element = sympy.Abs(sympy.IndexedBase(vector.name)[K])
    return sympy.Sum(expression.subs(variable, element), (K, 1, N))


def gather_sums(expression: sympy.Expr) -> sympy.Expr:
    """One sum where expanding left several over the same index; common factors of its terms before a bracket."""
    rest: list[sympy.Expr] = []
    terms: dict[tuple[sympy.Tuple, ...], list[sympy.Expr]] = {}
    for term in sympy.Add.make_args(expression):
        factor, sums = term.as_independent(sympy.Sum, as_Add=False)
        if isinstance(sums, sympy.Sum):
            terms.setdefault(sums.limits, []).append(factor * sums.function)
        else:
            rest.append(term)
    found = (sympy.Sum(sympy.factor_terms(sympy.Add(*parts)), *limits) for limits, parts in terms.items())
    return sympy.Add(*rest, *found)


def share_of_box(block: IndicatorBlock, vector: sympy.Symbol) -> sympy.Expr:
    """The smallest y that the box allows: |w|_inf / bound and its variants; 0 without a box."""
    p = sympy.Integer(2) if block.domain == "ball" else sympy.oo
    shares = [norm(part, p) / bound for bound, part in sides(block, vector) if bound is not None and bound != 0]
    return sympy.Max(*shares) if shares else sympy.Integer(0)


def sides(block: IndicatorBlock, vector: sympy.Symbol) -> tuple[tuple[sympy.Expr | None, sympy.Symbol], ...]:
    """(bound, part of the vector) on each side of the box: one, or two where the sides differ."""
    if block.lower is None:
        return ((block.bound, vector),)
    above, below = (sympy.Symbol(f"{vector.name}_{side}") for side in "+-")
    return ((block.bound, above), (block.lower, below))
