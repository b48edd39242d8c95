"""The sheet's sentences on a radial cost in a box: its conjugate, and the weights of its prox."""

from typing import TYPE_CHECKING

import sympy

if TYPE_CHECKING:
    from perspective.regularizer import Regularizer


def explain_joined_conjugate(r: "Regularizer") -> list[str]:
    """r*: the box cuts the weights of the maximiser, and one number u joins them."""
    bound = sympy.latex(r.block.bound)
    joined = r.dual.ratio is not None
    u = (
        ", which is the root of a function that grows with $u$:"
        if joined
        else f", here $u = {_tex(r.dual.same_ratio)}$, and"
    )
    lines = [
        r"$r^*(z) = \sup_w z^\top w - r(w) = \max\big(0, h^*(z) - c\big)$ with the price $c$ and $h^*$ the conjugate of "
        r"$\varphi(\lVert w \rVert_2)$ over the box. Its maximiser is "
        rf"$w_k = \operatorname{{sign}}(z_k) \min(|z_k| / u, {bound})$ with $u = \varphi'(\rho) / \rho$, "
        rf"$\rho = \lVert w \rVert_2${u}",
        "",
    ]
    if joined:
        lines += [f"$${_tex(r.dual.ratio)} = 0$$", "", "and then", ""]
    return [
        *lines,
        f"$$r^*(z) = {_tex(r.dual.group)}$$",
        "",
        r"So $w = 0$ minimises $L(w) + \tau\, r(w)$ exactly where $h^*(g / \tau) \le c$, $g = \nabla L(0)$."
        + (r" (There $u$ belongs to $z = g / \tau$, and in the threshold below to $z = v / \tau$.)" if joined else ""),
    ]


def explain_joined_weights(r: "Regularizer") -> str:
    """s_k(y): one q for the group."""
    return (
        f"$$s_k(y) = {_tex(r.proximal.shrunk)}\\Big|_{{v = |v_k|}}$$\n\nand $q$, the same for the whole group, is the root of "
        f"a function that grows with $q$:\n\n$${_tex(r.proximal.root_equation)} = 0$$"
    )


def _tex(expression: sympy.Basic) -> str:
    text = sympy.latex(expression)
    for vector in "zv":
        text = text.replace(rf"\left|{{{{{vector}}}_{{k}}}}\right|", f"|{vector}_k|")
    return text
