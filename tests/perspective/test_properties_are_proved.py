"""Statements about r are proved where they hold, refused where they do not, and known regularisers are recognised."""

import dataclasses

import pytest
import sympy

from perspective import IndicatorBlock, derive
from perspective.properties import prove

s, alpha, beta, c, d, M = sympy.symbols("s alpha beta c d M", positive=True)
HUBER = sympy.Piecewise((alpha * s**2, s <= d), (2 * alpha * d * s - alpha * d**2, True))
CASES = {
    "spr": ({"cost": alpha * s**2, "price": 1 - alpha, "bound": M}, "Structured Perspective Regularization"),
    "berhu": ({"cost": alpha * s**2, "price": 1 - alpha}, "reverse Huber (berHu) of the Euclidean norm"),
    "elastic": ({"cost": alpha * s**2 + beta * s, "price": c}, "sparse group lasso where the indicator is below 1"),
    "price": ({"cost": sympy.Integer(0), "price": c, "bound": M}, "l-infinity group norm in its box"),
    "linear": ({"cost": alpha * s, "price": c}, "lasso (l1)"),
    "linear in a box": ({"cost": alpha * s, "price": c, "bound": M}, "l1 plus l-infinity group norm in its box"),
    "huber": ({"cost": HUBER, "price": c}, "lasso (l1) where the price is unpaid"),
    "power": (
        {"cost": alpha * s ** sympy.Rational(3, 2), "price": c},
        "group lasso with the 3/2-norm where the indicator is below 1",
    ),
    "radial": ({"cost": alpha * s**2, "price": c, "radial": True}, "reverse Huber (berHu) of the Euclidean norm"),
}


@pytest.mark.parametrize("name", CASES)
def test_every_statement_is_proved_and_the_name_is_found(name):
    arguments, known = CASES[name]
    regularizer = derive(IndicatorBlock(weight=s, **arguments))
    statements = {x.name: x.proved for x in regularizer.properties}
    assert {"convex", "continuous", "continuously differentiable", "subdifferential at zero"} <= set(statements)
    assert all(statements.values()), statements
    assert known in regularizer.known_as


def test_no_name_where_nothing_fits():
    assert derive(IndicatorBlock(sympy.cosh(s) - 1, s, c, bound=M)).known_as == ()


def test_wrong_formulas_are_not_proved():
    right = derive(IndicatorBlock(alpha * s**2, s, c, bound=M))
    wrong_value = dataclasses.replace(right.pieces[1], value=right.pieces[1].value * 2)
    pieces = (right.pieces[0], wrong_value, right.pieces[2])
    wrong = dataclasses.replace(right, projection=dataclasses.replace(right.projection, pieces=pieces))
    assert not {x.name: x.proved for x in prove(wrong)}["continuous"]
    shifted = dataclasses.replace(right.projection, stationary=2 * right.projection.stationary)
    wrong = dataclasses.replace(right, projection=shifted)
    assert not {x.name: x.proved for x in prove(wrong)}["continuously differentiable"]


def test_a_concave_cost_is_not_called_convex():
    # refused at binding; the symbolic layer must not claim it either
    regularizer = derive(IndicatorBlock(s**4 - alpha * s**3 + s**2, s, c, bound=M))
    assert not {x.name: x.proved for x in regularizer.properties}["convex"]


def test_the_sheet_and_json_carry_them():
    regularizer = derive(IndicatorBlock(alpha * s**2, s, 1 - alpha, bound=M))
    assert "Known as: Structured Perspective Regularization" in regularizer.explain()
    assert regularizer.to_json()["known_as"][0] == "Structured Perspective Regularization"
    assert all(x["proved"] for x in regularizer.to_json()["properties"])
