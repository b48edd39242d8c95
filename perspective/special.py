"""Known regularisers among the derived ones, found by comparing formulas with a list."""

from typing import TYPE_CHECKING

import sympy

from perspective.norms import norm
from perspective.projection import Piece
from perspective.relaxation import W

if TYPE_CHECKING:
    from perspective.regularizer import Regularizer

ONE, TWO, TOP = norm(W, 1), norm(W, 2), norm(W, sympy.oo)
FACTOR, SECOND, REST = (sympy.Wild(name, exclude=[norm]) for name in ("factor", "second", "rest"))


def recognise(regularizer: "Regularizer") -> tuple[str, ...]:
    """Names of what r is, most specific first; empty where nothing on the list fits."""
    r, block = regularizer, regularizer.block
    if block.lower is not None:
        return ()
    found = []
    whole = r.pieces[0].value if r.pieces[0].name == "kept whole" else None
    piece = near_zero(r)
    near = sympy.expand(piece.value)
    a, b = r.scalar.quadratic or (sympy.Integer(0), sympy.Integer(0))
    quadratic = a != 0 and b == 0
    if quadratic and block.domain == "box" and block.bound is not None and _is(r.block.price, 1 - a):
        found.append("Structured Perspective Regularization")
    if quadratic and block.bound is None and whole is not None and whole.match(FACTOR * TWO**2 + REST):
        found.append("reverse Huber (berHu) of the Euclidean norm")
    where = {"shared": " where the indicator is below 1", "price unpaid": " where the price is unpaid"}
    suffix = where.get(piece.name, " in its box") if len(r.pieces) > 1 else ""
    for name, pattern in PATTERNS:
        match = near.match(pattern)
        if match and all(match.get(wild) != 0 for wild in (FACTOR, SECOND) if wild in match):
            found.append(name + suffix)
            return tuple(found)
    norms = near.atoms(norm)
    if len(norms) == 1 and not sympy.simplify(near / next(iter(norms))).has(norm):
        found.append(f"group lasso with the {next(iter(norms)).args[1]}-norm{suffix}")
    return tuple(found)


def near_zero(r: "Regularizer") -> Piece:
    """The case of r that holds around zero: price unpaid, else the free indicator's, else the box's."""
    by_name = {piece.name: piece for piece in r.pieces}
    return by_name.get("price unpaid") or by_name.get("shared") or r.pieces[-1]


def _is(left: sympy.Expr, right: sympy.Expr) -> bool:
    return sympy.simplify(left - right) == 0


PATTERNS = (
    ("group lasso", FACTOR * TWO),
    ("sparse group lasso", FACTOR * ONE + SECOND * TWO),
    ("l-infinity group norm", FACTOR * TOP),
    ("lasso (l1)", FACTOR * ONE),
    ("l1 plus l-infinity group norm", FACTOR * ONE + SECOND * TOP),
    ("group lasso plus l-infinity group norm", FACTOR * TWO + SECOND * TOP),
)
