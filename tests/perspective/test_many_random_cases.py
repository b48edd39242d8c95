"""Random costs, parameters, groups and steps: every map against the oracle, which knows only the declaration.

The suite draws a few hundred cases; `pytest -m slow` draws 10,000.
"""

import time
from dataclasses import dataclass

import numpy as np
import pytest
import sympy

from perspective import IndicatorBlock, derive
from perspective.oracle import consult

s, alpha, beta, c, d, M, U, L = sympy.symbols("s alpha beta c d M U L", positive=True)
HUBER = sympy.Piecewise((alpha * s**2, s <= d), (2 * alpha * d * s - alpha * d**2, True))
DEAD_ZONE = sympy.Piecewise((beta * s, s <= d), (alpha * (s - d) ** 2 + beta * s, True))
COSTS = {
    "SPR": {"cost": alpha * s**2, "price": 1 - alpha, "bound": M},
    "reverse Huber": {"cost": alpha * s**2, "price": 1 - alpha},
    "elastic": {"cost": alpha * s**2 + beta * s},
    "elastic in a box": {"cost": alpha * s**2 + beta * s, "bound": M},
    "power 3/2": {"cost": alpha * s ** sympy.Rational(3, 2)},
    "power 5/4 in a box": {"cost": alpha * s ** sympy.Rational(5, 4), "bound": M},
    "power 3": {"cost": alpha * s**3},
    "quartic": {"cost": alpha * s**4 + beta * s**2, "bound": M},
    "Huber": {"cost": HUBER},
    "Huber in a box": {"cost": HUBER, "bound": M},
    "linear, then quadratic": {"cost": DEAD_ZONE, "bound": M},
    "pure price": {"cost": sympy.Integer(0), "bound": M},
    "linear in a box": {"cost": alpha * s, "bound": M},
    "linear": {"cost": alpha * s},
    "cosh": {"cost": alpha * (sympy.cosh(s) - 1), "bound": M},
    "saturating": {"cost": alpha * s**2 / (1 + s)},
    "radial quadratic": {"cost": alpha * s**2, "bound": M, "radial": True},
    "radial elastic": {"cost": alpha * s**2 + beta * s, "radial": True},
    "two sides": {"cost": alpha * s**2, "bound": U, "lower": L},
    "nonnegative elastic": {"cost": alpha * s**2 + beta * s, "bound": U, "lower": 0},
}
SIZES = (1, 2, 3, 5, 9)
SAME = 1e-8  # relative: values and conjugates, both computed in float64
SAME_OBJECTIVE = 1e-11  # of |v|^2 / 2; the objective is strongly convex, so the point is right to 5e-6 of |v|
SAME_POINT = 1e-5  # of |v|: the oracle's own search over y leaves 1e-6
UNPAID = 2e-12  # where the best y is 0, the oracle stops at 1e-12 and pays that much of the price
UNDECIDED = 1e-7  # so near the threshold the oracle's conjugate cannot tell zero from not zero


@dataclass
class Worst:
    """The largest error of each kind seen so far."""

    value: float = 0.0
    conjugate: float = 0.0
    objective: float = 0.0
    point: float = 0.0
    cases: int = 0
    zero: int = 0
    whole: int = 0


@pytest.fixture(scope="module")
def regularizers():
    blocks = {name: IndicatorBlock(**{"weight": s, "price": c, **shape}) for name, shape in COSTS.items()}
    return {name: derive(block) for name, block in blocks.items()}


def check(regularizer, rng: np.random.Generator, worst: Worst) -> None:
    """One random case of one cost; AssertionError with the case where a map differs from the oracle."""
    block = regularizer.block
    numbers = {name: float(10 ** rng.uniform(-1.5, 1)) for name in block.parameters}
    if alpha in block.price.free_symbols:
        numbers["alpha"] = float(rng.uniform(1e-3, 0.999))
    number, oracle = regularizer.bind(**numbers), consult(block, numbers)
    v = rng.normal(size=rng.choice(SIZES))
    v = {0: v, 1: np.sign(v), 2: v**5, 3: np.where(rng.random(v.size) < 0.4, 0.0, v)}[int(rng.integers(4))]
    v *= 10 ** rng.uniform(-1.5, 1.5) / (np.abs(v).max() or 1.0)
    threshold = float(number.zero_threshold(v))
    step = float(10 ** rng.uniform(-2, 0.05)) * (threshold or 1.0)
    case = f"{block.cost}, {numbers}, v = {v!r}, step = {step!r}"

    mine = number.prox(v, step)
    point, truth = oracle.prox(v, step)
    half = 0.5 * float(v @ v) + 1e-300
    objective = 0.5 * float((mine - v) @ (mine - v)) + step * oracle.value(mine * (1 - 4e-16))[0]
    excess, gap = (objective - truth) / half, float(np.linalg.norm(mine - point)) / (2 * half) ** 0.5
    assert excess <= SAME_OBJECTIVE, (excess, case)
    assert gap <= SAME_POINT, (gap, case)
    surplus = float(oracle.conjugate_terms(v / step).sum()) - oracle.price
    if abs(surplus) > UNDECIDED * oracle.price:
        assert bool(mine.any()) == (surplus > 0), (surplus, case)

    for w in (v, mine * 0.9):
        truth = oracle.value(w)[0] if oracle.contains(w) else np.inf
        mine_value = float(number.value(w))
        error = 0.0 if truth == mine_value else max(0.0, abs(mine_value - truth) - UNPAID * oracle.price) / truth
        assert error <= SAME, (error, w, case)
        worst.value = max(worst.value, error)
    truth = oracle.conjugate(v / step)
    error = 0.0 if truth == float(number.conjugate(v / step)) else abs(float(number.conjugate(v / step)) - truth)
    assert error <= SAME * (abs(truth) + oracle.price), (error, case)
    worst.conjugate = max(worst.conjugate, error / (abs(truth) + oracle.price))
    worst.objective, worst.point = max(worst.objective, excess), max(worst.point, gap)
    worst.cases, worst.zero = worst.cases + 1, worst.zero + (not mine.any())
    worst.whole += float(number.indicator(mine)) == 1


@pytest.mark.parametrize("name", COSTS)
def test_a_few_random_cases(name, regularizers):
    worst, rng = Worst(), np.random.default_rng([1, *name.encode()])
    for _ in range(15):
        check(regularizers[name], rng, worst)
    assert worst.cases == 15


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_random_cases(regularizers):
    worst, start = Worst(), time.perf_counter()
    for i in range(10_000):
        name = list(COSTS)[i % len(COSTS)]
        check(regularizers[name], np.random.default_rng([2, i]), worst)
    print(f"{time.perf_counter() - start:.0f} s, {worst}")
    assert worst.cases == 10_000
    assert worst.zero >= 200
    assert worst.whole >= 200
    assert worst.cases - worst.zero - worst.whole >= 2000
