"""A cost of |w|_2 in a box: limits, extremes, the printed formulas against the numbers, sources, declarations, page."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import sympy
import torch
from radial_box_cases import COSTS, MAPS, NUMBERS, alpha, bind, boxed, groups, s

from perspective import InputError, derive
from perspective.listing import _box
from perspective.page import to_html, write_page

ELASTIC = boxed(COSTS["elastic"])
RIGHT = bind(ELASTIC)


@pytest.mark.parametrize("name", COSTS)
def test_limits_and_special_groups(name):
    v, number = groups(), bind(boxed(COSTS[name]))
    alone = bind(boxed(COSTS[name], radial=False))  # a group of one: the norm is the weight
    for each in MAPS:
        single = v[:, :1]
        assert np.allclose(getattr(number, each)(single), getattr(alone, each)(single), rtol=1e-9, atol=1e-12), each
    assert np.allclose(number.prox(v[:, :1], 0.4), alone.prox(v[:, :1], 0.4), rtol=1e-9, atol=1e-12)
    equal = np.sign(v) + (v == 0)  # equal weights meet the box together: the ball of radius M sqrt(n)
    ball = bind(boxed(COSTS[name], domain="ball"), M=1.5 * 5**0.5)
    for size in (0.1, 1.0, 3.0):
        assert np.allclose(number.prox(equal * size, 0.4), ball.prox(equal * size, 0.4), rtol=1e-9, atol=1e-12)
        assert np.allclose(number.conjugate(equal * size), ball.conjugate(equal * size), rtol=1e-9, atol=1e-12)
    if name not in ("price only", "linear", "cosh"):  # box and price gone
        far = bind(boxed(COSTS[name]), M=1e7)
        free = bind(boxed(COSTS[name], domain=None, bound=None))
        assert np.allclose(far.prox(v, 0.4), free.prox(v, 0.4), rtol=1e-9, atol=1e-12)
        assert np.allclose(far.value(v), free.value(v), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("name", ["elastic", "power 3/2", "saturating"])
def test_the_box_lies_between_two_balls(name):
    small, large = (bind(boxed(COSTS[name], domain="ball"), M=r) for r in (1.5, 1.5 * 5**0.5))
    number, v = bind(boxed(COSTS[name])), groups()
    assert (large.value(v) <= number.value(v) * (1 + 1e-12)).all()
    assert (number.value(v) <= small.value(v) * (1 + 1e-12)).all()
    assert (small.conjugate(v) <= number.conjugate(v) + 1e-12).all()
    assert (number.conjugate(v) <= large.conjugate(v) * (1 + 1e-12) + 1e-12).all()


@pytest.mark.parametrize("name", COSTS)
def test_extreme_sizes_and_the_threshold(name):
    number = bind(boxed(COSTS[name]))
    v = np.array([[1.0, -0.5, 0.25], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    for scale in (1e-300, 1e-160, 1e-30, 1e30, 1e160, 1e300):
        for step in (1e-300, 1e-3, 1.0, 1e300):
            w = number.prox(v * scale, step)
            assert np.isfinite(w).all()
            assert (np.abs(w) <= np.minimum(np.abs(v) * scale * (1 + 1e-12), 1.5)).all()
            assert (w * v >= 0).all()
        assert not np.isnan(number.conjugate(v * scale)).any()
    edge = number.prox(np.array([np.inf, 0.3, 0.0]), 0.5)
    assert edge[0] == 1.5
    assert 0 <= edge[1] <= 0.3
    v = groups()[1:]
    threshold = number.zero_threshold(v)
    assert not number.prox(v, threshold * (1 + 1e-9)).any()
    assert number.prox(v, threshold * (1 - 1e-6)).any(axis=1).all()


@pytest.mark.parametrize("name", ["quadratic", "elastic", "power 3/2", "linear"])
def test_printed_formulas_give_the_numbers(name):
    regularizer = derive(boxed(COSTS[name]))
    number = bind(boxed(COSTS[name]))
    rng = np.random.default_rng(5)
    for z in rng.normal(size=(4, 3)) * np.array([[0.3], [1], [3], [9]]):
        formula = _at(regularizer.dual.group, "z", z)
        if regularizer.dual.ratio is not None and np.linalg.norm(z) > float(number.cost_derivative(1e-300)):
            formula = formula.subs(sympy.Symbol("u", positive=True), _root(_at(regularizer.dual.ratio, "z", z)))
        assert float(formula) == pytest.approx(float(number.conjugate(z)), rel=1e-9, abs=1e-9)
        step = 0.4 * float(number.zero_threshold(z))
        w = number.prox(z, step)
        y = float(number.indicator(w))
        numbers = {sympy.Symbol("tau", positive=True): step, sympy.Symbol("y", positive=True): y}
        q = _root(_at(regularizer.proximal.root_equation, "v", z).subs(numbers))
        surplus = float(_at(regularizer.proximal.equation, "v", z).subs(numbers).subs(_symbol("q"), q))
        assert np.allclose(np.abs(w), y * np.minimum(np.abs(z) / q, 1.5), rtol=1e-7)
        assert abs(surplus) <= 1e-6 if y < 1 else surplus <= 1e-6


def test_the_printed_case_of_the_box_is_the_value():
    w = np.array([1.2, -0.2, 0.1])
    piece = next(p for p in derive(ELASTIC).pieces if p.name == "held by the box")
    assert float(RIGHT.indicator(w)) == np.abs(w).max() / 1.5
    printed = piece.value.replace(
        lambda e: e.func.__name__ == "norm", lambda e: sympy.Float(np.linalg.norm(w, float(e.args[1])))
    )
    assert float(printed.subs(_numbers())) == pytest.approx(float(RIGHT.value(w)), rel=1e-12)


def _symbol(name):
    return sympy.Symbol(name, positive=True)


def _numbers():
    return {_symbol(name): number for name, number in NUMBERS.items()}


def _at(formula, vector, numbers):
    """The formula with n = 3 and numbers for the vector and the parameters."""
    base = sympy.IndexedBase(vector)
    norm = sympy.Float(np.linalg.norm(numbers))
    formula = formula.replace(lambda e: e.func.__name__ == "norm", lambda _: norm)
    formula = formula.subs(sympy.Symbol("n", integer=True, positive=True), 3).doit()
    return formula.subs({base[k + 1]: float(x) for k, x in enumerate(numbers)}).subs(_numbers())


def _root(formula):
    """Of an increasing function of one symbol, by bisection on a logarithmic scale."""
    (symbol,) = formula.free_symbols
    evaluate = sympy.lambdify(symbol, formula)
    low, high = 1e-9, 1e9
    for _ in range(110):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if evaluate(middle) < 0 else (low, middle)
    return high


def test_torch_source_equals_numpy():
    v = groups(60)
    for cost in COSTS.values():
        block = boxed(cost)
        numbers, number, source = {n: NUMBERS[n] for n in block.parameters}, bind(block), {}
        exec(compile(derive(block).source("torch"), "<source>", "exec"), source)
        for step in (0.05, 0.7):
            truth = number.prox(v, step)
            assert (
                np.abs(source["prox"](torch.tensor(v), step, **numbers).numpy() - truth).max()
                <= 1e-12 * np.abs(v).max()
            )
            single = source["prox"](torch.tensor(v, dtype=torch.float32), step, **numbers)
            assert np.abs(single.numpy() - truth).max() <= 1e-5 * np.abs(v).max()
        small = np.clip(v, -1.5, 1.5)
        for name in (*MAPS, "gradient"):
            mine = source[name](torch.tensor(small), **numbers).numpy()
            assert np.allclose(mine, getattr(number, name)(small), rtol=1e-10, atol=1e-12), name
        rows = source["prox"](torch.tensor(v), torch.full((60, 1), 0.7), **{**numbers, "M": torch.full((60, 1), 1.5)})
        assert np.abs(rows.numpy() - number.prox(v, float(np.float32(0.7)))).max() <= 1e-6 * np.abs(v).max()


PROGRAM = """
import importlib, json, sys
import numpy as np, torch
np.seterr(all="ignore")
points = torch.tensor(np.load("points.npy"), dtype=torch.float32)
modules = [importlib.import_module(f"kernel{i}") for i in range(len(sys.argv) - 1)]
answers = [m.prox(points, 0.5, **json.loads(text)).numpy() for m, text in zip(modules, sys.argv[1:])]
np.savez("answers.npz", *answers)
"""


def test_triton_source_in_its_interpreter(tmp_path):
    pytest.importorskip("triton", reason="Triton comes with the CUDA build of torch only")
    points = np.random.default_rng(0).normal(size=(6, 5)) * np.array([[0.0], [0.3], [1.0], [2.0], [6.0], [20.0]])
    np.save(tmp_path / "points.npy", points)
    blocks = [boxed(COSTS[name]) for name in ("elastic", "power 3/2", "price only")]
    for i, block in enumerate(blocks):
        (tmp_path / f"kernel{i}.py").write_text(derive(block).source("triton"))
    arguments = [json.dumps({n: NUMBERS[n] for n in block.parameters}) for block in blocks]
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=tmp_path,
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    answers = np.load(tmp_path / "answers.npz")
    for i, block in enumerate(blocks):
        truth = bind(block).prox(points, 0.5)
        assert np.abs(answers[f"arr_{i}"] - truth).max() <= 1e-6 * np.abs(points).max(), block.cost
        assert np.array_equal(answers[f"arr_{i}"] == 0, truth == 0), block.cost


def test_the_domain_is_declared_and_nonsense_refused():
    assert boxed(alpha * s**2, domain=None) == boxed(alpha * s**2, domain="ball") != boxed(alpha * s**2)
    plain = boxed(alpha * s**2, radial=False, domain=None)
    assert plain == boxed(alpha * s**2, radial=False)
    assert plain.domain == "box"
    for changes, word in (
        ({"radial": False, "domain": "ball"}, "radial=True"),
        ({"domain": "cube"}, "choose"),
        ({"bound": None}, "give bound"),
        ({"lower": 1}, "leave lower out"),
    ):
        with pytest.raises(InputError, match=word):
            boxed(alpha * s**2, **changes)
    with pytest.raises(InputError, match="outside the box"):
        RIGHT.gradient([1.6, 0.0])
    with pytest.raises(InputError, match="not convex"):  # beyond M, where |w|_2 of a group may lie
        bind(boxed(s**4 - 3 * s**3 + 2.5 * s**2, bound=sympy.Rational(1, 10)))


def test_sheet_page_and_statements():
    for name, cost in COSTS.items():
        regularizer = derive(boxed(cost))
        assert all(x.proved for x in regularizer.properties), name
        text = regularizer.explain()
        assert "|w_k| \\le M" in text
        assert "lVert w \\rVert_2 \\le" not in text
        assert regularizer.to_json()["conjugate"]["ratio"] is None or "u" in text
        assert "radial" in to_html(regularizer)
    assert "group lasso plus l-infinity group norm in its box" in derive(boxed(COSTS["linear"])).known_as
    assert _box(ELASTIC) == "|w| <= M"
    assert write_page(derive(ELASTIC), {}).count("<img") == 6
