"""Algebraic formulas far out, in q = 1 / s, where powers of s itself would overflow.

alpha s^2 / (1 + s) in single precision is inf / inf at s = 1e30; alpha / (q (1 + q)) is not, and at q = 0 it is the limit.
"""

import sympy

Q = sympy.Symbol("_q", positive=True)


def far_out(expression: sympy.Expr, s: sympy.Symbol) -> sympy.Expr | None:
    """The expression in Q for s = 1 / Q; None where it is not algebraic in s, or has no limit that can be read off at Q = 0."""
    if s not in expression.free_symbols or not expression.is_algebraic_expr(s):
        return None
    far = sympy.powdenest(sympy.factor(sympy.together(expression.subs(s, 1 / Q))))
    others = {x: sympy.Rational(3 + 2 * i, 4) for i, x in enumerate(sorted(far.free_symbols - {Q}, key=str))}
    return None if far.subs(others).subs(Q, 0).has(sympy.nan) else far
