"""The derivation as a sheet a student can follow: Markdown with LaTeX, one LaTeX formula, or plain data."""

from typing import TYPE_CHECKING, Any

import sympy

from perspective.explain_radial_box import explain_joined_conjugate, explain_joined_weights
from perspective.norms import total
from perspective.projection import IMPLICIT
from perspective.relaxation import W

if TYPE_CHECKING:
    from perspective.regularizer import Regularizer


def explain(regularizer: "Regularizer") -> str:
    """Markdown with LaTeX ($...$, $$...$$): every step from the declaration to the prox, each with its reason."""
    r, block, scalar = regularizer, regularizer.block, regularizer.scalar
    s = block.weight
    box = "" if not _has_box(r) else rf",\quad {_box(r, 'y')}"
    lines = [
        f"# Regulariser of the cost ${_tex(block.cost)}$ with price ${_tex(block.price)}$"
        + (f" and box ${_box(r, '')}$" if _has_box(r) else " and no box")
        + (" (radial)" if block.radial else ""),
        "",
        "## 1. The declaration: a mixed-integer program",
        "",
        rf"A group $w \in \mathbb{{R}}^n$ is kept ($y = 1$) or removed ($y = 0$). Keeping it costs "
        rf"${_sum_of(r)} + {_tex(block.price)}$ with $\varphi({_tex(s)}) = {_tex(block.cost)}$:",
        "",
        rf"$$\min_{{w, y}}\; L(w) + \lambda \Big[ {_tex(r.relaxation.big_m)} \Big],\qquad w = 0 \text{{ where }} y = 0"
        rf"{box},\quad y \in \{{0, 1\}}$$",
        "",
        "## 2. The big-M relaxation",
        "",
        r"Letting $y \in [0, 1]$, the smallest $y$ the box allows is best, and only a fraction of the price is paid:",
        "",
        f"$${_tex(r.relaxation.big_m_projected)}$$",
        "",
        "## 3. The perspective relaxation",
        "",
        r"Replacing $\varphi(w)$ by $y\,\varphi(w / y)$ changes nothing at $y \in \{0, 1\}$ and gives the convex hull of one "
        "group's $(w, y, \\text{cost})$: no formulation of one group is tighter.",
        "",
        rf"$$P(w, y) = {_tex(r.relaxation.perspective)},\qquad 0 < y \le 1"
        + (f",\\quad {_tex(r.projection.smallest)} \\le y$$" if r.projection.smallest != 0 else "$$"),
        "",
        _closure(r),
        "",
        "## 4. The projection: the regulariser in closed form",
        "",
        r"$P$ is convex in $y$. Setting $\partial P / \partial y = 0$ gives, with $\mathcal{L}(s) = s\varphi'(s) - \varphi(s) = "
        + _tex(scalar.legendre)
        + "$,",
        "",
        f"$${_tex(r.projection.equation)} = 0$$",
        "",
        _stationary(r),
        "",
        "| case | where | $y^*(w)$ | $r(w)$ |",
        "|---|---|---|---|",
        *(
            f"| {p.name} | ${_cell(p.condition)}$ | ${_cell(p.indicator)}$ | ${_cell(p.value)}$ |"
            for p in r.projection.pieces
        ),
        "",
        "and $r(0) = 0$" + (rf"; outside the box ${_box(r, '')}$, $r = +\infty$." if _has_box(r) else "."),
        "",
        "## 5. The conjugate",
        "",
        *(explain_joined_conjugate(r) if block.joined_by_norm else _separate_conjugate(r)),
        "",
        "## 6. The proximal operator",
        "",
        r"$\operatorname{prox}_{\tau r}(v) = \arg\min_w \tfrac12 \lVert w - v \rVert^2 + \tau\, r(w)$. **Threshold:** the whole "
        "group is exactly zero where",
        "",
        f"$${_tex(r.proximal.threshold)}$$",
        "",
        "**Equation:** otherwise, for a given $y$, each weight is $w_k = \\operatorname{sign}(v_k)\\, y\\, s_k(y)$, where",
        "",
        _shrunk(r),
        "",
        r"and $y$ is the root in $(0, 1)$ of the nondecreasing function $F$ (or $y = 1$ where $F(1) \le 0$):",
        "",
        f"$$F(y) = {_tex(r.proximal.equation)}$$",
        "",
    ]
    if r.proximal.solution is not None:
        where = ""
        if r.proximal.solution.has(sympy.Symbol("u")):
            where = rf"\qquad u_k = \max(|v_k| - {_tex(sympy.Symbol('tau') * scalar.slope_at_zero)},\, 0)"
        lines += [
            "Without a box the root is",
            "",
            f"$$y = \\min\\Big(1,\\; {_tex(r.proximal.solution)}\\Big){where}$$",
            "",
        ]
    lines += ["## 7. What is true of it", ""]
    for statement in r.properties:
        by = "" if statement.proved else " (not proved symbolically; `check_laws` checks it)"
        lines.append(f"- **{statement.name}**: {statement.claim}{by}.")
    if r.known_as:
        lines += ["", f"Known as: {'; '.join(r.known_as)}."]
    return "\n".join(lines)


def to_latex(regularizer: "Regularizer") -> str:
    """r(w) as one LaTeX cases formula."""
    rows = [rf"{_tex(p.value)} & {_tex(p.condition)}" for p in regularizer.pieces]
    return "r(w) = \\begin{cases} " + r" \\ ".join(rows) + r" \end{cases}"


def to_json(regularizer: "Regularizer") -> dict[str, Any]:
    """Every formula as {"text", "latex"}."""
    r = regularizer
    return {
        "cost": _both(r.block.cost),
        "price": _both(r.block.price),
        "bound": None if r.block.bound is None else _both(r.block.bound),
        "parameters": list(r.block.parameters),
        "big_m": _both(r.relaxation.big_m),
        "big_m_projected": _both(r.relaxation.big_m_projected),
        "perspective": _both(r.relaxation.perspective),
        "closure_slope": _both(r.relaxation.recession),
        "indicator_equation": _both(r.projection.equation),
        "pieces": [
            {
                "name": p.name,
                "condition": _both(p.condition),
                "indicator": _both(p.indicator),
                "value": _both(p.value),
            }
            for p in r.pieces
        ],
        "conjugate": {
            "scalar": _both(r.dual.scalar),
            "group": _both(r.dual.group),
            "ratio": None if r.dual.ratio is None else _both(r.dual.ratio),
        },
        "prox": {
            "threshold": _both(r.proximal.threshold),
            "equation": _both(r.proximal.equation),
            "weight": None if r.proximal.shrunk is None else _both(r.proximal.shrunk),
            "solution": None if r.proximal.solution is None else _both(r.proximal.solution),
        },
        "properties": [{"name": x.name, "claim": x.claim, "proved": x.proved} for x in r.properties],
        "known_as": list(r.known_as),
    }


def _separate_conjugate(r: "Regularizer") -> list[str]:
    return [
        r"$r^*(z) = \sup_w z^\top w - r(w) = \max\big(0, \sum_k \varphi^*(|z_k|) - c\big)$ with the price $c$ and",
        "",
        rf"$$\varphi^*(z) = {_tex(r.dual.scalar)}$$",
        "",
        *_other_side(r),
        rf"$$r^*(z) = {_tex(r.dual.group)}$$",
        "",
        r"So $w = 0$ minimises $L(w) + \tau\, r(w)$ exactly where $\sum_k \varphi^*(|g_k| / \tau) \le c$, $g = \nabla L(0)$.",
    ]


def _other_side(r: "Regularizer") -> list[str]:
    if r.dual.negative is None:
        return []
    return [r"for $z \ge 0$; on the other side of the box", "", rf"$$\varphi^*(-z) = {_tex(r.dual.negative)}$$", ""]


def _has_box(r: "Regularizer") -> bool:
    return r.block.bound is not None or r.block.lower is not None


def _box(r: "Regularizer", y: str) -> str:
    block = r.block
    upper = r"\infty" if block.bound is None else _tex(block.bound) + (rf"\, {y}" if y else "")
    if block.domain == "ball":
        return rf"\lVert w \rVert_2 \le {upper}"
    if block.lower is None:
        return rf"|w_k| \le {upper}"
    lower = "0" if block.lower == 0 else "-" + _tex(block.lower) + (rf"\, {y}" if y else "")
    return rf"{lower} \le w_k \le {upper}"


def _sum_of(r: "Regularizer") -> str:
    return r"\varphi(\lVert w \rVert_2)" if r.block.radial else r"\sum_k \varphi(|w_k|)"


def _closure(r: "Regularizer") -> str:
    slope = r.relaxation.recession
    if slope == sympy.oo:
        return (
            r"At $y = 0$ the closure is the recession function; $\varphi(s)/s \to \infty$, so only $w = 0$ is left there, "
            "at cost 0."
        )
    value = total(slope * r.block.weight, r.block.weight, W, r.block.radial)
    return rf"At $y = 0$ the closure is the recession function, ${_tex(value)}$."


def _stationary(r: "Regularizer") -> str:
    smallest = r.projection.smallest
    floor = "" if smallest == 0 else f" The box adds $y \\ge {_tex(smallest)}$."
    if r.projection.stationary is None:
        return (
            f"The left side falls in $y$; its root ${_tex(IMPLICIT)}$ has no closed form and is found by a bracketed "
            f"Newton iteration.{floor}"
        )
    if r.projection.stationary == 0 and r.projection.smallest == 0:
        return (
            "The cost is linear: the perspective only grows with $y$, so $y = 0$ is best and the price is never paid."
        )
    if r.projection.stationary == 0:
        return f"The cost is linear: the perspective only grows with $y$, so the smallest feasible $y$ is best.{floor}"
    return f"Its root is $y = {_tex(r.projection.stationary)}$.{floor} And $y \\le 1$."


def _shrunk(r: "Regularizer") -> str:
    if r.block.joined_by_norm:
        return explain_joined_weights(r)
    if r.proximal.shrunk is not None:
        return f"$$s_k(y) = {_tex(r.proximal.shrunk)}\\Big|_{{v = |v_k|}}$$"
    bound = "" if r.block.bound is None else f", cut at ${_tex(r.block.bound)}$"
    return f"$s_k(y)$ is the root in $s$ of ${_tex(r.proximal.root_equation)} = 0$ with $v = |v_k|${bound} (no closed form)."


def _tex(expression: sympy.Basic) -> str:
    text = sympy.latex(expression)
    for vector in "wzv":
        text = text.replace(rf"\left|{{{{{vector}}}_{{k}}}}\right|", f"|{vector}_k|")
    return text


def _cell(expression: sympy.Basic) -> str:
    return _tex(expression).replace("|", r"\vert ")  # a bar would end the table cell


def _both(expression: sympy.Basic) -> dict[str, str]:
    return {"text": str(expression), "latex": _tex(expression)}
