"""A cached derivation equals a fresh one; whatever is wrong with the folder, the answer stays right and nothing is run."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.derivation_table import blocks
from perspective import IndicatorBlock, InputError, cache, declare, derive
from perspective.cache import find_folder, load, store
from perspective.derive import derive_afresh
from perspective.explain import to_json
from perspective.norms import norm
from perspective.written import read_expression, write_expression

BLOCKS = {name: block for name, (block, _) in blocks().items()}
SPR = BLOCKS["SPR"]


def only_file(folder):
    (path,) = (folder / "derivations").iterdir()
    return path


@pytest.mark.parametrize("name", BLOCKS)
def test_a_stored_derivation_reads_back_equal(name, tmp_path):
    fresh = derive_afresh(BLOCKS[name])
    store(fresh, tmp_path)
    cached = load(BLOCKS[name], tmp_path)
    assert cached is not None
    assert cached is not fresh
    for field in dataclasses.fields(fresh):
        assert getattr(cached, field.name) == getattr(fresh, field.name), field.name
    assert to_json(cached) == to_json(fresh)  # the printed order of terms too


def test_two_blocks_never_share_a_file(tmp_path):
    similar = [
        SPR,
        dataclasses.replace(SPR, bound=None),
        dataclasses.replace(SPR, bound=sympy.Integer(2)),
        dataclasses.replace(SPR, bound=sympy.Float(2)),
        dataclasses.replace(SPR, lower=sympy.Integer(0)),
        IndicatorBlock(cost=SPR.cost, weight=SPR.weight, price=SPR.price, bound=SPR.bound, radial=True),
        declare("alpha*x**2", "1-alpha", "M", "x"),
        declare("alpha*s**2", "c", "M"),
    ]
    for block in similar:
        assert load(block, tmp_path) is None
        store(derive_afresh(block), tmp_path)
    assert len(list((tmp_path / "derivations").iterdir())) == len(similar)
    for block in similar:
        assert load(block, tmp_path).block == block


def test_an_edited_derivation_never_meets_an_old_result(tmp_path, monkeypatch):
    store(derive_afresh(SPR), tmp_path)
    monkeypatch.setattr(cache, "version_text", lambda: "another version")
    assert load(SPR, tmp_path) is None


def test_the_version_changes_with_the_source(tmp_path, monkeypatch):
    cache.version_text.cache_clear()
    before = cache.version_text()
    (tmp_path / "cache.py").write_text("edited")
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "cache.py"))
    cache.version_text.cache_clear()
    after = cache.version_text()
    cache.version_text.cache_clear()
    assert before != after
    assert sympy.__version__ in before


def _truncate(text):
    return text[: len(text) // 2]


def _another_number(text):
    assert "Integer(2)" in text
    return text.replace("Integer(2)", "Integer(3)", 1)


def _nothing(text):
    return ""


def _a_list(text):
    return "[1, 2]"


def _fewer_fields(text):
    content = json.loads(text)
    del content["stages"]["dual"]["group"]
    return json.dumps(content)


@pytest.mark.parametrize("damage", [_truncate, _another_number, _nothing, _a_list, _fewer_fields])
def test_a_damaged_file_is_ignored_and_rewritten(damage, tmp_path, monkeypatch):
    monkeypatch.setenv("PERSPECTIVE_CACHE", str(tmp_path))
    block = declare("gamma*s**2", "1-gamma", "U")
    fresh = derive_afresh(block)
    store(fresh, tmp_path)
    path = only_file(tmp_path)
    whole = path.read_text()
    path.write_text(damage(whole))
    assert load(block, tmp_path) is None
    forget_memory()
    assert derive(block) == fresh
    assert path.read_text() == whole


def forget_memory():
    from perspective.derive import _remember

    _remember.cache_clear()


ATTACKS = (
    "__import__('os').system('touch OWNED')",
    "Symbol(__import__('os').system('touch OWNED'))",
    "Add(Integer(1), __import__('os').system('touch OWNED'))",
    "Integer(__import__('os').system('touch OWNED'))",
    "(lambda: __import__('os').system('touch OWNED'))()",
    'Add(\'__import__("os").system("touch OWNED")\')',  # sympy would evaluate a text given for a number
    "Add.__class__.__base__.__subclasses__()",
    'sympify(\'__import__("os").system("touch OWNED")\')',
    "Lambda(Symbol('x'), Symbol('x'))",
    "Symbol('x', **{'positive': True})",
    "Symbol('x', positive=print('OWNED'))",
    "Function('f', positive=True).__init__",
    "Integer(True)",
    "Integer(1.5)",
    "Float('nan', precision=53)",
    "Piecewise(Integer(1))",
    "nan",
    "1",
    "",
    "(" * 300 + ")" * 300,
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_poisoned_file_is_refused_and_never_run(attack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERSPECTIVE_CACHE", str(tmp_path))
    with pytest.raises(InputError):
        read_expression(attack)
    fresh = derive_afresh(SPR)
    store(fresh, tmp_path)
    path = only_file(tmp_path)
    content = json.loads(path.read_text())
    content["stages"]["dual"]["group"] = attack
    content["sha256"] = cache._digest(content["stages"])  # the attacker knows how files are signed
    path.write_text(json.dumps(content))
    assert load(SPR, tmp_path) is None
    forget_memory()
    assert derive(SPR) == fresh
    assert not Path("OWNED").exists()


def test_a_formula_of_another_kind_is_refused(tmp_path):
    store(derive_afresh(SPR), tmp_path)
    path = only_file(tmp_path)
    content = json.loads(path.read_text())
    content["stages"]["dual"]["group"] = "true"
    content["sha256"] = cache._digest(content["stages"])
    path.write_text(json.dumps(content))
    assert load(SPR, tmp_path) is None


@pytest.mark.parametrize("what", ["a file stands there", "no right to write"])
def test_where_nothing_can_be_written_the_answer_is_the_same(what, tmp_path, monkeypatch, capfd):
    folder = tmp_path / "folder"
    if what == "a file stands there":
        folder.write_text("")
    else:
        folder.mkdir()
        monkeypatch.setattr(cache, "write_text", _refuse)
    monkeypatch.setenv("PERSPECTIVE_CACHE", str(folder))
    forget_memory()
    assert derive(SPR) == derive_afresh(SPR)
    assert capfd.readouterr() == ("", "")


def _refuse(path, text):
    raise InputError("no room")


def test_the_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for value, expected in (("off", None), ("OFF", None), ("", tmp_path / ".cache" / "perspective"), ("x", Path("x"))):
        monkeypatch.setenv("PERSPECTIVE_CACHE", value)
        assert find_folder() == expected
    monkeypatch.delenv("PERSPECTIVE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the XDG rules: a relative path is ignored
    assert find_folder() == tmp_path / ".cache" / "perspective"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert find_folder() == tmp_path / "xdg" / "perspective"
    monkeypatch.setenv("PERSPECTIVE_CACHE", "off")
    forget_memory()
    derive(SPR)
    assert not (tmp_path / "xdg").exists()


def test_a_second_call_derives_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PERSPECTIVE_CACHE", str(tmp_path))
    forget_memory()
    first = derive(SPR)
    assert derive(declare("alpha*s**2", "1-alpha", "M")) is first  # from memory
    forget_memory()
    spine = sys.modules["perspective.derive"]  # the package's own `derive` is the function
    monkeypatch.setattr(spine, "derive_afresh", lambda block: pytest.fail("derived again"))
    again = derive(SPR)  # from disk
    assert again == first
    assert again is not first


STORE_OFTEN = """
import pathlib, sys
from perspective import declare
from perspective.cache import load, store
from perspective.derive import derive_afresh
block, folder = declare("alpha*s**2", "1-alpha", "M"), pathlib.Path(sys.argv[1])
for _ in range(10):
    store(derive_afresh(block), folder)
assert load(block, folder) == derive_afresh(block)
"""


def test_two_processes_may_write_at_once(tmp_path):
    both = [subprocess.Popen([sys.executable, "-c", STORE_OFTEN, tmp_path]) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert load(SPR, tmp_path) == derive_afresh(SPR)
    assert only_file(tmp_path).suffix == ".json"  # and nothing half written is left


def test_the_oldest_go_when_the_folder_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "MOST_FILES", 3)
    for age, price in enumerate(range(1, 6)):
        store(derive_afresh(declare("s**2", str(price))), tmp_path)
        for path in (tmp_path / "derivations").iterdir():
            stamp = path.stat().st_mtime_ns - 10**9 * (10 - age)
            os.utime(path, ns=(stamp, stamp))
    assert len(list((tmp_path / "derivations").iterdir())) == 3
    assert load(declare("s**2", "1"), tmp_path) is None
    assert load(declare("s**2", "5"), tmp_path) is not None


def test_what_cannot_be_written_as_text_is_derived_each_time(tmp_path):
    s = sympy.Symbol("s", positive=True)
    block = IndicatorBlock(cost=s**2, weight=s, price=sympy.besselj(0, 1))
    store(derive_afresh(block), tmp_path)
    assert load(block, tmp_path) is None
    assert not (tmp_path / "derivations").exists()


ATOMS = st.one_of(
    st.sampled_from([sympy.Symbol(name, positive=True) for name in ("s", "M", "w_+", "it's")]),
    st.sampled_from([sympy.Symbol("w"), sympy.Symbol("k", integer=True), sympy.pi, sympy.oo]),
    st.integers(-(10**20), 10**20).map(sympy.Integer),
    st.fractions(max_denominator=99).map(lambda x: sympy.Rational(x.numerator, x.denominator)),
    st.floats(-1e9, 1e9).map(sympy.Float),
)


def _grow(children):
    pair = st.tuples(children, children)
    return st.one_of(
        *(pair.map(lambda x, make=make: make(*x, evaluate=False)) for make in (sympy.Add, sympy.Mul, sympy.Max)),
        *(pair.map(lambda x, make=make: make(*x)) for make in (sympy.Add, sympy.Mul)),
        children.map(lambda x: sympy.Pow(x, sympy.Rational(1, 2), evaluate=False)),
        children.map(lambda x: norm(x, 2)),
        pair.map(lambda x: sympy.Piecewise((x[0], sympy.Symbol("s", positive=True) < 3), (x[1], True))),
        children.map(lambda x: sympy.Function("f", positive=True)(x)),
    )


@settings(max_examples=60, deadline=None)
@given(expression=st.recursive(ATOMS, _grow, max_leaves=8))
def test_any_expression_reads_back_as_the_same_tree_or_is_refused(expression):
    if expression.has(sympy.nan, sympy.zoo) or expression is -sympy.oo:
        return
    try:
        text = write_expression(expression)
    except InputError:
        return  # refusing is allowed: the derivation is then not kept
    back = read_expression(text)
    assert back == expression
    assert sympy.srepr(back) == sympy.srepr(expression)
