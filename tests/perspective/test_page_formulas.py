"""MathML says what the LaTeX says: structure by structure on known formulas, and nothing is lost on any sheet."""

import re
import xml.etree.ElementTree as ET

import pytest

from perspective import IndicatorBlock, InputError, derive
from perspective.catalogue import ALL
from perspective.mathml import to_mathml
from perspective.sheet import inline, to_sections

SPACE = "{http://www.w3.org/1998/Math/MathML}"


def shape(element):
    """MathML as nested text without attributes, rows of one child unwrapped: msup(x,2)."""
    name = element.tag.removeprefix(SPACE)
    inside = [shape(child) for child in element if not child.tag.endswith("mspace")]
    if name in ("mi", "mn", "mo", "mtext"):
        return element.text
    assert len(element) == CHILDREN.get(name, len(element))
    if name in ("mrow", "math"):
        return " ".join(x for x in inside if x)
    return f"{name}({','.join(inside)})"


@pytest.mark.parametrize(
    ("latex", "expected"),
    [
        (r"\frac{a}{b + 1}", "mfrac(a,b + 1)"),
        (r"\tfrac12 x", "mfrac(1,2) x"),
        (r"x_1^{23}", "msubsup(x,1,23)"),
        (r"x^{23}_1", "msubsup(x,1,23)"),
        (r"\lVert w \rVert_{\infty}^{2}", "‖ w msubsup(‖,∞,2)"),
        (r"\varphi'(s) \ge \varphi''(0)", "msup(φ,′) ( s ) ≥ msup(φ,″) ( 0 )"),
        (r"\sqrt{x} - \sqrt[3]{y}", "msqrt(x) − mroot(y,3)"),
        (r"\left(a, \frac{1}{2}\right]^{2}", "msup(( a , mfrac(1,2) ],2)"),
        (r"\min\left\{x\right\}", "min { x }"),
        (r"c \max_{k} x_k + \arg\min_w", "c msub(max,k) msub(x,k) + arg msub(min,w)"),
        (r"\alpha\beta < 1.5", "α β < 1.5"),
        (r"\operatorname{sign}{\left(v \right)} \text{ and more}", "sign ( v ) \xa0and\xa0more"),
        (
            r"\begin{cases} a & \text{for}\: x \leq 1 \\b & \text{otherwise} \end{cases}",
            "mtable(mtr(mtd(a),mtd(for x ≤ 1)),mtr(mtd(b),mtd(otherwise)))",
        ),
    ],
)
def test_structure_of_known_formulas(latex, expected):
    assert shape(ET.fromstring(to_mathml(latex))) == expected


def test_sums_carry_their_limits_above_and_below_only_on_their_own_line():
    latex = r"\sum_{k=1}^{n} x_k"
    assert "munderover(∑,k = 1,n)" in shape(ET.fromstring(to_mathml(latex, display=True)))
    assert "msubsup(∑,k = 1,n)" in shape(ET.fromstring(to_mathml(latex)))


@pytest.mark.parametrize(
    "latex",
    [r"\unheard{x}", r"\frac{a}", r"\left(a", r"{a", r"\begin{matrix}a\end{matrix}", r"a}b", r"\begin{cases}a", "a#b"],
)
def test_what_cannot_be_read_is_refused_never_dropped(latex):
    with pytest.raises(InputError):
        to_mathml(latex)


CHILDREN = {"mfrac": 2, "mroot": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2, "msubsup": 3, "munderover": 3}
COUNTED = {  # LaTeX on the left, what stands for it on the right
    r"\\[tf]?d?frac\b|\\tfrac": r"<mfrac",
    r"\\sqrt": r"<msqrt|<mroot",
    r"\\begin\{cases\}": r"<mtable",
    r"\\left[^a-z]": r'form="prefix"|form=\'prefix\'',
    r"\\infty": "∞",
    r"\\alpha": "α",
    r"\\tau": "τ",
    r"\\[lr]Vert": "‖",
    r"\\leq?\b": "≤",
    r"\\geq?\b": "≥",
    r"\\sum": "∑",
    r"\\wedge": "∧",
}


@pytest.mark.parametrize("make", ALL, ids=lambda f: f.__name__)
def test_nothing_is_lost_between_sheet_and_page(make):
    markdown = derive(make()).explain()
    html = "".join(f"<h2>{heading}</h2>{body}" for heading, body in to_sections(markdown))
    for element in ET.fromstring(f"<div>{html}</div>").iter():
        name = element.tag.removeprefix(SPACE)
        assert len(element) == CHILDREN.get(name, len(element)), ET.tostring(element)
    formulas = " ".join(re.findall(r"\$+([^$]+)\$+", markdown))
    for latex, mathml in COUNTED.items():
        assert len(re.findall(latex, formulas)) == len(re.findall(mathml, html)), latex
    assert html.count("<math") == len(re.findall(r"\$\$[^$]+\$\$|\$[^$]+\$", markdown))
    assert "$" not in re.sub(r"<code>.*?</code>", "", html)


def test_text_around_formulas_is_escaped():
    assert inline("a < b & **c** `d<e`") == "a &lt; b &amp; <strong>c</strong> <code>d&lt;e</code>"


def test_names_of_parameters_survive():
    import sympy

    s, first, second = sympy.symbols("s lambda_1 widthbar", positive=True)
    html = "".join(body for _, body in to_sections(derive(IndicatorBlock(first * s**2, s, second)).explain()))
    assert "<msub><mi>λ</mi>" in html
    assert "¯" in html
