"""Printed formulas: true to a direct search at numbers, and without detours: no if-then-else, no sum in two halves."""

import json

import numpy as np
import pytest
import sympy

from benchmarks.derivation_table import blocks
from perspective import IndicatorBlock, InputError, declare
from perspective.catalogue import ALL
from perspective.derive import derive
from perspective.norms import norm
from perspective.relaxation import W

BLOCKS = {name: block for name, (block, _) in blocks().items()} | {make.__name__: make() for make in ALL}
PIECEWISE = ("Huber in a box", "linear, then quadratic")
NUMBERS = {"alpha": 0.3, "beta": 0.2, "c": 0.7, "d": 0.4}
QUARTIC = declare("alpha*(s**2 + s**4)", "1-alpha", "M")


@pytest.mark.parametrize("name", BLOCKS)
def test_no_condition_holds_an_if_then_else(name):
    regularizer = derive(BLOCKS[name])
    text = json.dumps(regularizer.to_json()) + regularizer.explain() + regularizer.latex()
    assert "ITE" not in text
    assert regularizer.proximal.threshold not in (sympy.true, sympy.false)


def at(expression, **numbers):
    return float(expression.subs({x: numbers[x.name] for x in expression.free_symbols}))


def highest(function, bound):
    """max of a concave function on [0, bound] and where, by ternary search."""
    low, high = 0.0, bound
    for _ in range(120):
        third = (high - low) / 3
        low, high = (low + third, high) if function(low + third) < function(high - third) else (low, high - third)
    return function(low), low


@pytest.mark.parametrize("bound", [0.25, 0.9])
@pytest.mark.parametrize("name", PIECEWISE)
def test_the_conjugate_and_f_of_a_cost_in_pieces_are_true(name, bound):
    """The end of the box before and after the joint d = 0.4."""
    block = BLOCKS[name]
    regularizer = derive(block)
    cost = sympy.lambdify(
        block.weight, block.cost.subs({x: NUMBERS[x.name] for x in block.cost.free_symbols - {block.weight}})
    )
    for z in np.linspace(0.01, 1.5, 12):
        truth, _ = highest(lambda s, z=z: z * s - cost(s), bound)
        assert at(regularizer.dual.scalar, **NUMBERS, M=bound, z=z) == pytest.approx(truth, abs=1e-9)
    (total,) = regularizer.proximal.equation.atoms(sympy.Sum)
    (element,) = total.function.atoms(sympy.Abs)
    one = regularizer.proximal.equation.xreplace(
        {total: total.function.subs(element, sympy.Symbol("a", positive=True))}
    )
    tau = 0.5
    for v in (0.05, 0.15, 0.3, 0.6, 1.2):
        for y in (0.3, 1.0):
            _, s = highest(lambda s, v=v, y=y: -0.5 * (v / y - s) ** 2 - tau / y * cost(s), bound)
            truth = NUMBERS["c"] - highest(lambda t, z=(v - y * s) / tau: z * t - cost(t), bound)[0]
            assert at(one, **NUMBERS, M=bound, a=v, y=y, tau=tau) == pytest.approx(truth, abs=1e-6)


@pytest.mark.parametrize("name", ["hyperbolic", "cosh in a box", "saturating"])
def test_each_case_has_one_sum(name):
    for piece in derive(BLOCKS[name]).pieces:
        assert len(piece.value.atoms(sympy.Sum)) <= 1


def test_two_powers_are_printed_through_the_balance_they_strike():
    """s^2 + s^4: the higher power is replaced through sum L(w/y) = price, so it stays under the root of y* only."""
    shared = next(piece for piece in derive(QUARTIC).pieces if piece.name == "shared")
    assert sympy.count_ops(shared.value) < 80
    w, alpha = np.array([0.3, -0.1, 0.2]), 0.3
    value, y = (
        float(_with(e, alpha).replace(norm, lambda _, p: float((abs(w) ** float(p)).sum() ** (1 / float(p)))))
        for e in (shared.value, shared.indicator)
    )
    truth, best = highest(
        lambda t: -(alpha * (w**2 / t + w**4 / t**3).sum() + (1 - alpha) * t) if t > 0 else -np.inf, 1.0
    )
    assert value == pytest.approx(-truth, rel=1e-9)
    assert y == pytest.approx(best, rel=1e-5)


def _with(expression, alpha):
    return expression.subs(sympy.Symbol("alpha", positive=True), alpha)


def test_every_claim_about_two_powers_is_proved():
    """With a price such as 1 - alpha too, where sympy once did not come to an end."""
    assert all(statement.proved for statement in derive(QUARTIC).properties)


def test_powers_whose_equation_sympy_cannot_solve_are_left_to_the_iteration():
    assert derive(declare("s**(3/2) + s**3", "c")).scalar.scaled_root is None


@pytest.mark.parametrize("price", [[1, 2], (1, 2), {1, 2}])
def test_several_prices_are_refused(price):
    s = sympy.Symbol("s", positive=True)
    with pytest.raises(InputError, match="out of scope"):
        IndicatorBlock(cost=s**2, weight=s, price=price)


def test_norms_of_the_group_are_the_only_vector_left_in_two_powers():
    shared = next(piece for piece in derive(QUARTIC).pieces if piece.name == "shared")
    assert {call.args for call in shared.value.atoms(norm)} == {(W, sympy.Integer(2)), (W, sympy.Integer(4))}
