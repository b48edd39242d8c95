"""Counts of channels: the dynamic program is the best of all allocations, and every way of sharing stays inside the budget."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nets.post_training.allocation import allocate, fill_curve, fill_up, share_evenly
from perspective import InputError

error = st.floats(0, 10, allow_nan=False)
layers = st.lists(st.tuples(st.lists(error, min_size=2, max_size=6), st.integers(0, 7)), min_size=1, max_size=4)


def used(counts, weights):
    return sum(w * k for w, k in zip(weights, counts, strict=True))


@settings(max_examples=80, deadline=None)
@given(layers, st.integers(0, 90))
def test_the_allocation_is_the_best_of_all(drawn, budget):
    curves, weights = [np.array(curve) for curve, _ in drawn], [weight for _, weight in drawn]
    choices = itertools.product(*(range(1, len(curve)) for curve in curves))
    fitting = [c for c in choices if used(c, weights) <= budget]
    if not fitting:
        with pytest.raises(InputError, match="budget"):
            allocate(curves, weights, budget)
        return

    def total(counts):
        return sum(float(curve[k]) for curve, k in zip(curves, counts, strict=True))

    found = allocate(curves, weights, budget)
    assert found in fitting
    assert total(found) <= min(map(total, fitting)) + 1e-12


def test_the_best_allocation_is_found_where_no_common_price_gives_it():
    # at the price of layer 0's jump layer 1 would take its jump too, and both do not fit
    curves = [np.array([9.0, 9.0, 9.0, 1.0]), np.array([9.0, 9.0, 9.0, 1.5])]
    assert allocate(curves, [1, 1], 4) == (3, 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 9)), min_size=1, max_size=5), st.integers(0, 400))
def test_even_shares_fit_and_nothing_more_fits_when_filled_up(drawn, budget):
    channels, weights = [p for p, _ in drawn], [w for _, w in drawn]
    if sum(weights) > budget:
        with pytest.raises(InputError, match="budget"):
            share_evenly(channels, weights, budget)
        return
    even = share_evenly(channels, weights, budget)
    full = fill_up(even, channels, weights, budget)
    for counts in (even, full):
        assert used(counts, weights) <= budget
        assert all(1 <= k <= p for k, p in zip(counts, channels, strict=True))
    assert all(k == p or used(full, weights) + w > budget for k, p, w in zip(full, channels, weights, strict=True))


def test_half_of_every_layer_is_half_of_every_layer():
    assert share_evenly([16, 32, 64], [1, 1, 1], 56) == (8, 16, 32)


def test_a_curve_is_linear_between_its_points_and_never_rises():
    assert np.allclose(fill_curve({1: 4.0, 3: 2.0, 4: 0.0}, 4), [4, 4, 3, 2, 0])
    assert np.allclose(fill_curve({1: 1.0, 2: 1.5, 3: -1e-9, 4: 0.0}, 4), [1, 1, 1, 0, 0])


def test_a_layer_without_a_finite_error_is_refused():
    with pytest.raises(InputError, match="NaN"):
        allocate([np.array([0.0, np.nan, 1.0])], [1], 2)
