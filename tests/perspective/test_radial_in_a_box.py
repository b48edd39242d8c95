"""A cost of |w|_2 in a box |w_k| <= M: laws against the oracle, the sum cost where both agree, fifty digits, wrong maps."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from radial_box_cases import COSTS, NUMBERS, alpha, bind, boxed, s

from perspective import LawViolation, check_laws, derive
from perspective.catalogue.spr import spr
from perspective.clipped_rays import search_clipped_rays

SPR, RADIAL = derive(spr()), derive(boxed(alpha * s**2, price=1 - alpha))
scales = st.floats(-6, 6).map(lambda e: 10.0**e)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    share=st.floats(1e-3, 0.999),
    bound=scales,
    step=scales,
    scale=scales,
    v=st.lists(st.floats(-1, 1), min_size=1, max_size=7),
)
def test_the_square_of_the_norm_is_the_sum_of_squares(share, bound, step, scale, v):
    mine, theirs = (regularizer.bind(alpha=share, M=bound) for regularizer in (RADIAL, SPR))
    v = np.array(v) * scale
    close = 1e-13 * np.abs(v).max()
    assert np.allclose(mine.prox(v, step), theirs.prox(v, step), rtol=1e-10, atol=close)
    for name in ("value", "indicator", "zero_threshold"):
        assert np.allclose(getattr(mine, name)(v), getattr(theirs, name)(v), rtol=1e-12, atol=0), name
    assert np.allclose(
        mine.conjugate(v), theirs.conjugate(v), rtol=1e-12, atol=1e-13
    )  # near the threshold: sum - price
    w = np.clip(v, -bound, bound)
    assert np.allclose(mine.gradient(w), theirs.gradient(w), rtol=1e-10, atol=0)
    assert RADIAL.known_as == SPR.known_as


@pytest.mark.parametrize("name", [name for name in COSTS if name != "price only"])
def test_laws_of_radial_costs_in_a_box(name):
    block = boxed(COSTS[name])
    assert len(check_laws(block, **{name: NUMBERS[name] for name in block.parameters})) == 9


def test_clipped_rays_beat_every_point_of_the_box():
    rng = np.random.default_rng(3)
    for n in (1, 2, 4):
        z = rng.normal(size=n) * 3
        for cost in (np.square, lambda r: r**1.5, lambda r: r**3 / 5, lambda r: 0.4 * r):

            def objective(w, z=z, cost=cost):
                return cost(np.linalg.norm(w, axis=1)) - np.abs(w) @ np.abs(z)

            _, lowest = search_clipped_rays(np.abs(z), 1.2, objective)
            corners = rng.choice([0.0, 1.2], size=(2000, n))
            inside = rng.uniform(0, 1.2, size=(20000, n))
            points = np.concatenate([corners, inside, np.where(rng.random(inside.shape) < 0.5, inside, 1.2)])
            values = objective(points)
            assert lowest[0] <= values.min() + 1e-12
            assert values.min() <= lowest[0] + 0.3 * abs(lowest[0]) + 0.05  # the points do come near


ELASTIC = boxed(COSTS["elastic"])
RIGHT = bind(ELASTIC)
BALL = bind(boxed(COSTS["elastic"], domain=None))
SUM = bind(boxed(COSTS["elastic"], domain=None, radial=False))
FREE = bind(boxed(COSTS["elastic"], domain=None, bound=None))


def cut_without_joining(v, step):
    """Every weight as without a box for the same y, then cut: the norm of the cut group is not looked at again."""
    free = FREE.prox(v, step)
    y = FREE.indicator(free)[..., None]
    return np.sign(v) * np.minimum(np.abs(free), np.maximum(y, RIGHT.indicator(RIGHT.prox(v, step))[..., None]) * 1.5)


def share_of_the_norm(w):
    return np.minimum(1, np.linalg.norm(w, axis=-1) * np.maximum(1 / 1.5, (0.3 / 0.7) ** 0.5))


def edge_forgotten(w):
    """The box's share of the slope is missing."""
    y, size = RIGHT.indicator(w)[..., None], np.linalg.norm(w, axis=-1, keepdims=True)
    return np.where(size > 0, (0.6 / np.maximum(y, 1e-300) + 0.2 / np.maximum(size, 1e-300)) * np.asarray(w), 0.0)


WRONG = {
    "prox: ball for the box": {"prox": BALL.prox},
    "prox: weight by weight": {"prox": SUM.prox},
    "prox: clipped after the fact": {"prox": lambda v, step: np.clip(FREE.prox(v, step), -1.5, 1.5)},
    "prox: cut, but not joined again": {"prox": cut_without_joining},
    "prox: half the step": {"prox": lambda v, step: RIGHT.prox(v, step / 2)},
    "prox: one percent of the step": {"prox": lambda v, step: RIGHT.prox(v, step * 1.01)},
    "value: ball for the box": {"value": BALL.value},
    "value: weight by weight": {"value": SUM.value},
    "indicator: share of the norm": {"indicator": share_of_the_norm},
    "conjugate: ball for the box": {"conjugate": BALL.conjugate},
    "conjugate: weight by weight": {"conjugate": SUM.conjugate},
    "gradient: the box's share missing": {"gradient": edge_forgotten},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_map_breaks_a_law(name):
    class Wrong:
        def __init__(self):
            for each in ("value", "indicator", "conjugate", "gradient", "prox"):
                setattr(self, each, WRONG[name].get(each, getattr(RIGHT, each)))

    with pytest.raises(LawViolation):
        check_laws(ELASTIC, candidate=Wrong(), **NUMBERS)


def in_fifty_digits(v, slope, cost, bound, price, step):
    """The prox by bisection inside bisection, h* from its definition z.s - phi(|s|)."""
    v, step, bound, price = (
        [mpmath.mpf(abs(float(x))) for x in v],
        mpmath.mpf(step),
        mpmath.mpf(bound),
        mpmath.mpf(price),
    )

    def group(y):
        low, high = mpmath.mpf(0), mpmath.mpf(10) ** 6
        for _ in range(130):
            q = (low + high) / 2
            w = [min(x / q, bound) for x in v]
            rho = mpmath.sqrt(sum(x * x for x in w))
            low, high = (q, high) if (q - y) * rho < step * slope(rho) else (low, q)
        return w, rho

    def excess(y):
        w, rho = group(y)
        return price - (sum((x - y * t) * t for x, t in zip(v, w, strict=True)) / step - cost(rho))

    if excess(mpmath.mpf(0)) >= 0:
        return [0.0] * len(v)
    low, high = mpmath.mpf(0), mpmath.mpf(1)
    for _ in range(0 if excess(high) <= 0 else 60):
        y = (low + high) / 2
        low, high = (y, high) if excess(y) < 0 else (low, y)
    return [float(high * x) for x in group(high)[0]]


@pytest.mark.parametrize(
    ("name", "slope", "cost"),
    [
        ("power 3", lambda r: 3 * mpmath.mpf(0.3) * r**2, lambda r: mpmath.mpf(0.3) * r**3),
        ("power 3/2", lambda r: mpmath.mpf(0.45) * mpmath.sqrt(r), lambda r: mpmath.mpf(0.3) * r**1.5),
        ("cosh", mpmath.sinh, lambda r: mpmath.cosh(r) - 1),
    ],
)
def test_prox_matches_fifty_digits(name, slope, cost):
    rng = np.random.default_rng([9, *name.encode()])
    seen = set()
    with mpmath.workdps(50):
        for size, fraction in ((0.5, 0.5), (3.0, 0.2), (3.0, 0.7), (8.0, 0.1)):
            v = np.sort(np.abs(rng.normal(size=3))) * size
            number = bind(boxed(COSTS[name]), M=0.6)
            step = float(number.zero_threshold(v)) * fraction
            mine = number.prox(v, step)
            assert np.abs(mine - in_fifty_digits(v, slope, cost, 0.6, 0.7, step)).max() <= 1e-13 * np.abs(v).max()
            y = float(number.indicator(mine))
            seen.add((y < 1, bool((mine >= 0.6 * y * (1 - 1e-12)).any())))
    assert (True, True) in seen  # some weights at the box, and the price shared
