"""The derivation page needs nothing but itself, says which numbers it drew, and its curves are the oracle's."""

import base64
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pytest
import sympy

from perspective import IndicatorBlock, InputError, declare, derive
from perspective.catalogue import ALL
from perspective.figures import SIZE, draw_all, set_scene
from perspective.oracle import consult
from perspective.page import choose_numbers, to_html, write_page

NUMBERS = {"alpha": 0.3, "beta": 0.2, "c": 0.7, "M": 1.5, "d": 0.4, "U": 1.2, "L": 0.5}
s, alpha, c, L, U = sympy.symbols("s alpha c L U", positive=True)
SHAPES = {
    "SPR": declare("alpha*s**2", "1-alpha", "M"),
    "smooth": declare("cosh(s) - 1", "c"),
    "price unpaid": declare("alpha*s", "c"),
    "two sides": IndicatorBlock(alpha * s**2, s, c, U, L),
    "nonnegative": IndicatorBlock(alpha * s**2, s, c, lower=0),
    "ball": IndicatorBlock(alpha * s**2, s, c, U, radial=True),
}


class Balance(HTMLParser):
    """Remembers what a page opens, and whether every tag that must close does."""

    VOID = ("meta", "img", "mspace", "br")

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@cache
def drawn(name):
    """The numeric regulariser of a shape, and its pictures."""
    num = derive(SHAPES[name]).bind(**{name: NUMBERS[name] for name in SHAPES[name].parameters})
    return num, draw_all(num)


@pytest.fixture(scope="module")
def page():
    return write_page(derive(SHAPES["SPR"]), {"M": 2.25})


def test_the_page_needs_nothing_from_outside(page):
    reader = Balance()
    reader.feed(page)
    assert reader.open == []
    tags = [tag for tag, _ in reader.seen]
    assert "script" not in tags
    assert "link" not in tags
    assert tags.count("h2") == 7
    addresses = [value for _, attributes in reader.seen for key, value in attributes.items() if key in ("src", "href")]
    assert len(addresses) == 6
    for address in addresses:
        kind, data = address.split(",", 1)
        assert kind == "data:image/svg+xml;base64"
        assert ET.fromstring(base64.b64decode(data)).tag.endswith("svg")
    outside = set(re.findall(r"https?://[^\"' <]+", re.sub(r"base64,[^\"]+", "", page)))
    assert outside == {"http://www.w3.org/1998/Math/MathML"}
    assert all(attributes.get("alt") for tag, attributes in reader.seen if tag == "img")


def test_the_page_says_its_numbers(page):
    assert "drawn with M = 2.25, alpha = 0.3" in page
    assert "(alpha chosen for the page" in page
    assert choose_numbers(derive(declare("k*s**2 + alpha*s", "c")), {}) == {"alpha": 0.3, "c": 0.7, "k": 0.5}


def test_numbers_that_do_not_fit_are_refused():
    regularizer = derive(SHAPES["SPR"])
    with pytest.raises(InputError, match="no such parameter"):
        write_page(regularizer, {"gamma": 1.0})
    with pytest.raises(InputError, match="--set"):
        write_page(regularizer, {"alpha": 2.0})


@pytest.mark.parametrize("name", SHAPES)
def test_the_curves_are_the_oracles(name):
    num, pictures = drawn(name)
    truth = consult(SHAPES[name], num.parameters)
    assert len({picture.title for picture in pictures}) == len(pictures) == 6
    lines = {line.get_label(): line.get_xydata() for line in pictures[2].axes.lines}
    for t, r in lines["r(w)"][::100]:
        assert r == pytest.approx(truth.value(np.full(SIZE, t))[0], rel=1e-7, abs=1e-12)
    r, lasso = lines["r(w)"], lines["group lasso of the same slope"]
    assert np.all(lasso[:, 1] <= r[:, 1] * (1 + 1e-9) + 1e-12)  # a convex function lies above its tangent at zero
    for t, exact in lines["exact: cost + price, 0 if removed"][::100]:
        if t > 0:
            assert exact == pytest.approx(float(truth.perspective(np.full(SIZE, t), np.ones(1))[0]), rel=1e-12)


@pytest.mark.parametrize("name", SHAPES)
def test_the_marked_breakpoints_are_breakpoints(name):
    num, pictures = drawn(name)
    scene = set_scene(num)
    if np.isfinite(scene.whole):
        before, after = (float(num.indicator(np.full(SIZE, scene.whole * k))) for k in (0.999, 1.001))
        assert before < 1 == after
    else:
        assert name == "price unpaid"
    curves = {line.get_label(): line.get_xydata() for line in pictures[5].axes.lines if "step" in line.get_label()}
    assert len(curves) == 3
    for fraction, curve in zip((0.25, 0.6, 1.1), curves.values(), strict=True):
        zero = curve[(curve[:, 1] == 0) & (curve[:, 0] > 0), 0].max()
        spacing = curve[1, 0] - curve[0, 0]
        assert zero == pytest.approx(fraction * min(scene.whole, scene.high), abs=1.01 * spacing)


@pytest.mark.parametrize("make", ALL, ids=lambda f: f.__name__)
def test_a_notebook_shows_every_case(make):
    regularizer = derive(make())
    html = to_html(regularizer)
    assert regularizer._repr_html_() == html
    assert html.count("<tr>") == len(regularizer.pieces) + 1
    assert all(f"<td>{piece.name}</td>" in html for piece in regularizer.pieces)
    ET.fromstring(f"<div>{html}</div>")


def run(*arguments, cwd):
    command = [sys.executable, "-W", "error", "-m", "perspective", "derive", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


def test_the_command_writes_the_page_or_one_sentence(tmp_path):
    done = run("s**2 + b*s", "--price", "c", "--html", "--set", "b=0.1", "--out", "page.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "drawn with b = 0.1, c = 0.7" in (tmp_path / "page.html").read_text()
    wrong = [
        ["--html"],
        ["--set", "alpha=1"],
        ["--html", "--out", "x", "--json"],
        ["--html", "--out", "x", "--set", "q=1"],
    ]
    for arguments in wrong:
        refused = run("alpha*s**2", *arguments, cwd=tmp_path)
        assert refused.returncode == 2
        assert len(refused.stderr.strip().splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
