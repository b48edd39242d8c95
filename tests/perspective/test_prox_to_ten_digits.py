"""The numeric maps of SPR agree with 50-digit arithmetic to 1e-10 of the group, for any alpha, box, step and scale."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perspective import derive
from perspective.catalogue.spr import spr

BOXED, FREE = derive(spr()), derive(spr(bounded=False))
mpmath.mp.dps = 50


def prox_in_fifty_digits(v, alpha, bound, step):
    """Bisection on the y-equation of the method's design, written out by hand for SPR."""
    v = [mpmath.mpf(float(x)) for x in v]
    alpha, step, price = mpmath.mpf(alpha), mpmath.mpf(step), 1 - mpmath.mpf(alpha)
    bound = mpmath.inf if bound is None else mpmath.mpf(bound)
    t = 2 * step * alpha

    def excess(y):
        total = mpmath.mpf(0)
        for x in map(abs, v):
            cut = bound != mpmath.inf and x > bound * (y + t)
            total += (t / 2 * bound**2 + bound * (x - bound * (y + t))) if cut else t / 2 * x**2 / (y + t) ** 2
        return price * step - total

    if excess(mpmath.mpf(0)) >= 0:
        return [0.0] * len(v), None
    low, high = mpmath.mpf(0), mpmath.mpf(1)
    if excess(high) <= 0:
        low = high
    for _ in range(170):
        y = (low + high) / 2
        low, high = (y, high) if excess(y) < 0 else (low, y)
    return [float(mpmath.sign(x) * high * min(abs(x) / (high + t), bound)) for x in v], float(high)


scales = st.floats(-12, 12).map(lambda e: 10.0**e)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    alpha=st.floats(1e-6, 1 - 1e-6),
    bound=st.one_of(st.none(), scales),
    step=scales,
    scale=scales,
    v=st.lists(st.floats(-1, 1), min_size=1, max_size=7),
)
def test_prox_matches_fifty_digits(alpha, bound, step, scale, v):
    v = np.array(v) * scale
    number = FREE.bind(alpha=alpha) if bound is None else BOXED.bind(alpha=alpha, M=bound)
    truth, y = prox_in_fifty_digits(v, alpha, bound, step)
    threshold = float(number.zero_threshold(v))
    if abs(step - threshold) <= 1e-12 * threshold or (y is not None and y < 1e-4):
        return  # at the threshold itself the answer is ill-conditioned: a rounding of alpha moves it
    mine = number.prox(v, step)
    assert np.abs(mine - truth).max() <= 1e-10 * np.abs(truth).max()


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e-160, 1e-30, 1.0, 1e30, 1e160, 1e300])
@pytest.mark.parametrize("number", [BOXED.bind(alpha=0.3, M=1.5), FREE.bind(alpha=0.3)], ids=["box", "free"])
def test_huge_and_tiny_values_stay_finite_and_ordered(number, scale):
    v = np.array([[1.0, -0.5, 0.25], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]) * scale
    for step in (1e-300, 1e-3, 1.0, 1e300):
        w = number.prox(v, step)
        assert np.isfinite(w).all()
        assert (np.abs(w) <= np.abs(v) * (1 + 1e-12)).all()
        assert (np.sign(w) * np.sign(v) >= 0).all()
        assert not w[1].any()
    threshold = number.zero_threshold(v)
    assert threshold[1] == 0
    assert (threshold >= 0).all()
    assert not np.isnan(number.value(v)).any()
    assert not np.isnan(number.conjugate(v)).any()


def test_infinite_entries_give_the_limit_and_nan_is_refused():
    number, free = BOXED.bind(alpha=0.3, M=1.5), FREE.bind(alpha=0.3)
    assert number.value([np.inf, 0.0]) == np.inf
    assert number.prox(np.array([np.inf, 0.3]), 0.5)[0] == 1.5
    assert free.prox(np.array([-np.inf, 0.3]), 0.5)[0] == -np.inf
    assert free.prox(np.array([-np.inf, 0.3]), 0.5)[1] == pytest.approx(0.3 / 1.3)
    for call in (number.value, number.indicator, number.conjugate, number.gradient, lambda v: number.prox(v, 0.1)):
        with pytest.raises(ValueError, match="NaN"):
            call(np.array([np.nan, 1.0]))


def test_rows_are_independent_and_shapes_are_kept():
    rng = np.random.default_rng(1)
    v, step = rng.normal(size=(3, 40, 5)), rng.uniform(0.01, 3, size=(3, 40))
    number = BOXED.bind(alpha=0.1, M=0.8)
    together = number.prox(v, step)
    alone = np.array([[number.prox(v[i, j], step[i, j]) for j in range(40)] for i in range(3)])
    assert np.array_equal(together, alone)
    assert together.shape == v.shape
    assert number.value(v).shape == number.zero_threshold(v).shape == (3, 40)
    assert (number.prox(v, 50.0) == 0).all()


def test_the_zero_threshold_is_where_zeros_begin():
    rng = np.random.default_rng(2)
    v = rng.normal(size=(200, 9)) * 10 ** rng.uniform(-3, 3, size=(200, 1))
    for number in (BOXED.bind(alpha=0.05, M=0.5), FREE.bind(alpha=0.7)):
        threshold = number.zero_threshold(v)
        assert not number.prox(v, threshold * (1 + 1e-9)).any()
        assert number.prox(v, threshold * (1 - 1e-7)).any(axis=1).all()
