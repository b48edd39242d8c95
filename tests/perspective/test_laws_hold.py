"""Every block of the catalogue, and random SPR blocks, obey every law against the global oracle."""

import pytest
import sympy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perspective import IndicatorBlock, check_laws, declare
from perspective.catalogue import ALL
from perspective.catalogue.spr import spr

NUMBERS = {"alpha": 0.3, "beta": 0.2, "c": 0.7, "M": 1.5, "d": 0.4, "U": 1.2, "L": 0.5}
s, alpha, beta, c, d, M, U, L = sympy.symbols("s alpha beta c d M U L", positive=True)
HUBER = sympy.Piecewise((alpha * s**2, s <= d), (2 * alpha * d * s - alpha * d**2, True))
DEAD_ZONE = sympy.Piecewise((beta * s, s <= d), (alpha * (s - d) ** 2 + beta * s, True))
MORE = [
    ("cosh(s) - 1", "c", "M"),
    ("s**2/(1 + s)", "c", None),
    ("alpha*s**3", "c", "M"),
    ("alpha*s**4 + beta*s**2", "c", "M"),
    ("alpha*s", "c", "M"),
    ("alpha*s**2 + beta*s", "1 - alpha", None),
]
SHAPES = {
    "Huber": {"cost": HUBER},
    "Huber in a box": {"cost": HUBER, "bound": M},
    "linear then quadratic": {"cost": DEAD_ZONE, "bound": M},
    "linear, price unpaid": {"cost": alpha * s},
    "saturating, price unpaid": {"cost": s**2 / (1 + s), "price": 2 + c},
    "radial quadratic in a ball": {"cost": alpha * s**2, "bound": M, "radial": True},
    "radial elastic": {"cost": alpha * s**2 + beta * s, "radial": True},
    "radial cosh": {"cost": sympy.cosh(s) - 1, "bound": M, "radial": True},
    "radial price": {"cost": sympy.Integer(0), "bound": M, "radial": True},
    "two sides": {"cost": alpha * s**2, "bound": U, "lower": L},
    "nonnegative elastic in a box": {"cost": alpha * s**2 + beta * s, "bound": U, "lower": 0},
    "nonnegative quadratic": {"cost": alpha * s**2, "lower": 0},
}


@pytest.mark.parametrize(
    "block", [make() for make in ALL] + [declare(*text) for text in MORE], ids=lambda b: str(b.cost)
)
def test_laws_of_every_cost(block):
    checked = check_laws(block, **{name: NUMBERS[name] for name in block.parameters})
    assert len(checked) == 9


@pytest.mark.parametrize("name", SHAPES)
def test_laws_of_pieces_sides_and_radial_costs(name):
    block = IndicatorBlock(**{"price": c, "weight": s, **SHAPES[name]})
    assert len(check_laws(block, **{name: NUMBERS[name] for name in block.parameters})) == 9


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("alpha", [1e-4, 0.01, 0.5, 0.999])
def test_laws_of_spr_over_the_published_alphas(alpha, bounded):
    parameters = {"alpha": alpha, "M": 0.2} if bounded else {"alpha": alpha}
    assert check_laws(spr(bounded), **parameters)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(alpha=st.floats(1e-3, 0.999), log_bound=st.floats(-4, 4))
def test_laws_of_random_spr_blocks(alpha, log_bound):
    assert check_laws(spr(), alpha=alpha, M=10**log_bound)
