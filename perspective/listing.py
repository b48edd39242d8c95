"""What the catalogue holds, one line a block: its declaration, what r is near zero, and the name it is known by."""

from typing import Any

import sympy

from perspective.block import IndicatorBlock
from perspective.catalogue import ALL
from perspective.derive import derive
from perspective.norms import norm
from perspective.projection import IMPLICIT
from perspective.special import near_zero


def list_catalogue() -> list[dict[str, Any]]:
    """Every block of the catalogue in its order: name, cost, price, box, near_zero and known_as, as text, all derived.

    near_zero: r where y* < 1 and the box does not hold it; None without a closed form.
    """
    entries = []
    for make in ALL:
        regularizer = derive(make())
        value = near_zero(regularizer).value
        entries.append(
            {
                "name": make.__name__,
                "cost": _text(regularizer.block.cost) + (" of |w|_2" if regularizer.block.radial else ""),
                "price": _text(regularizer.block.price),
                "box": _box(regularizer.block),
                "near_zero": None if value.has(IMPLICIT) else _text(value),
                "known_as": list(regularizer.known_as),
            }
        )
    return entries


def to_lines(entries: list[dict[str, Any]]) -> str:
    """The entries as a table of plain text, one line each."""
    rows = [("NAME", "COST phi(s)", "PRICE", "BOX", "r(w) NEAR ZERO, UNLESS THE BOX HOLDS y")]
    for e in entries:
        known = f"  ({e['known_as'][0]})" if e["known_as"] else ""
        rows.append(
            (e["name"], e["cost"], e["price"], e["box"] or "none", (e["near_zero"] or "no closed form") + known)
        )
    widths = [max(len(row[k]) for row in rows) for k in range(4)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]) for row in rows
    )


def _box(block: IndicatorBlock) -> str | None:
    if block.bound is None and block.lower is None:
        return None
    upper = "oo" if block.bound is None else _text(block.bound)
    if block.lower is not None:
        return f"{'0' if block.lower == 0 else '-' + _text(block.lower)} <= w <= {upper}"
    return f"|w|_2 <= {upper}" if block.domain == "ball" else f"|w| <= {upper}"


def _text(expression: sympy.Expr) -> str:
    """Formulas as people type them: |w|_2 for norms, cases with `if`."""
    if isinstance(expression, sympy.Piecewise):
        return ", else ".join(
            _text(formula) + ("" if where is sympy.true else f" if {_condition(where)}")
            for formula, where in expression.args
        )
    return str(expression.replace(norm, _bars))


def _bars(vector: sympy.Symbol, p: sympy.Expr) -> sympy.Symbol:
    name = "inf" if p == sympy.oo else str(p) if p.is_Integer else f"({p})"
    return sympy.Symbol(f"|{vector}|_{name}", positive=True)


def _condition(where: sympy.Basic) -> str:
    """s <= d rather than d >= s."""
    return str(where.reversed if isinstance(where, sympy.Ge | sympy.Gt) else where)
