"""Law 11: bad parameters and declarations raise one sentence that names the cure."""

import copy
import pickle

import numpy as np
import pytest
import sympy

from perspective import IndicatorBlock, InputError, declare, derive
from perspective.catalogue.spr import spr
from perspective.declaration import read_settings

s = sympy.Symbol("s", positive=True)
SPR = derive(spr())


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"alpha": 0.0, "M": 1.0}, "alpha is 0"),
        ({"alpha": 1.0, "M": 1.0}, "price"),
        ({"alpha": 1.5, "M": 1.0}, "price"),
        ({"alpha": -0.1, "M": 1.0}, "alpha"),
        ({"alpha": float("nan"), "M": 1.0}, "alpha"),
        ({"alpha": 0.5, "M": 0.0}, "M is 0"),
        ({"alpha": 0.5, "M": -2.0}, "M is -2"),
        ({"alpha": 0.5, "M": float("inf")}, "M is inf"),
        ({"alpha": "half", "M": 1.0}, "half"),
        ({"alpha": 0.5}, "M is missing"),
        ({"alpha": 0.5, "M": 1.0, "beta": 1.0}, "beta is unknown"),
    ],
)
def test_bad_numbers(parameters, word):
    with pytest.raises(InputError, match=word) as caught:
        SPR.bind(**parameters)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cost", "price", "bound", "word"),
    [
        ("alpha*s**2 + 1", "c", None, "at s = 0"),
        ("sqrt(s)", "c", None, "not convex"),
        ("-s**2", "c", None, "convex"),
        ("s**2", "-1", None, "must be positive"),
        ("s**2", "s", None, "contains the weight"),
        ("9**9**9**9*s**2", "c", None, "too large"),
        ("a*s**p", "c", None, "1 \\+ q"),
        ("s**2", "c", "-1", "must be positive"),
        ("0*s", "c", None, "needs a bound"),
        ("s**", "c", None, "cannot read"),
        ("open('x')", "c", None, "cannot read"),
        ("s.__class__", "c", None, "cannot read"),
        ("", "c", None, "cannot read"),
    ],
)
def test_bad_declarations(cost, price, bound, word):
    with pytest.raises(InputError, match=word):
        derive(declare(cost, price, bound))


def test_a_cost_that_is_convex_only_for_some_numbers_is_refused_with_the_point():
    regularizer = derive(declare("s**4 - a*s**3 + s**2", "c", "M"))
    assert regularizer.bind(a=0.1, c=1.0, M=1.0).price == 1.0
    with pytest.raises(InputError, match=r"slope falls between 0\.\d+ and 0\.\d+"):
        regularizer.bind(a=1.8, c=1.0, M=1.0)


def test_a_symbol_is_a_parameter_whatever_its_assumptions():
    plain = sympy.Symbol("alpha")
    block = IndicatorBlock(cost=plain * sympy.Symbol("s") ** 2, weight=sympy.Symbol("s"), price=1 - plain)
    assert block.parameters == ("alpha",)
    assert block == IndicatorBlock(cost=spr(False).cost, weight=s, price=spr(False).price)


def test_bad_arrays():
    number = SPR.bind(alpha=0.5, M=1.0)
    for call in (lambda: number.value(3.0), lambda: number.value(np.zeros((2, 0))), lambda: number.prox([1.0], 0.0)):
        with pytest.raises(InputError):
            call()
    for strange in ([["a"]], [1 + 2j], np.array(["2020"], dtype="datetime64"), [[1.0], [1.0, 2.0]]):
        with pytest.raises(InputError, match=r"real numbers|ragged"):
            number.value(strange)
    for step in (-1.0, np.inf, np.nan):
        with pytest.raises(InputError, match="step"):
            number.prox(np.ones(3), step)
    with pytest.raises(InputError, match="step has shape"):
        number.prox(np.ones((4, 3)), np.ones(3))
    with pytest.raises(InputError, match="outside the box"):
        number.gradient(np.array([2.0, 0.0]))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"lower": -1}, "lower bound"),
        ({"lower": 1, "radial": True, "bound": 2}, "radial"),
        ({"lower": 1}, "bound above"),
        ({"cost": sympy.Piecewise((s**2, s <= 1))}, "large s"),
        ({"cost": sympy.Piecewise((s**2, s**2 <= 1), (2 * s - 1, True))}, "ascending"),
        ({"cost": "s**2"}, None),
    ],
)
def test_bad_shapes(changes, word):
    arguments = {"cost": s**2, "weight": s, "price": 1, **changes}
    if word is None:
        assert derive(IndicatorBlock(**arguments)).block.cost == s**2
        return
    with pytest.raises(InputError, match=word):
        derive(IndicatorBlock(**arguments))


def test_a_cost_that_jumps_is_refused():
    jump = sympy.Piecewise((s**2, s <= 1), (s**2 + 1, True))
    with pytest.raises(InputError, match="not convex"):
        derive(IndicatorBlock(jump, s, 1)).bind()


def test_a_parameter_set_twice_is_refused():
    assert read_settings(["a=1", "b=2"]) == {"a": 1.0, "b": 2.0}
    with pytest.raises(InputError, match="twice"):
        read_settings(["a=1", "a=2"])


def test_a_copy_is_bound_again():
    number = SPR.bind(alpha=0.5, M=1.0)
    for other in (copy.deepcopy(number), pickle.loads(pickle.dumps(number))):
        assert np.array_equal(other.prox([[0.3, 0.9]], 0.2), number.prox([[0.3, 0.9]], 0.2))
