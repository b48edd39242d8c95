"""The vectorised prox gives the numbers of the float64 loop over single groups, which the mathematics' own tests prove."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nets.groups import channel_groups
from nets.prox import prox_rows, prox_step, to_torch
from perspective import InputError, declare, derive

SPR = derive(declare("alpha*s**2", price="1-alpha", bound="M"))
MIXED = derive(declare("alpha*s**2 + beta*s", price="1-alpha", bound="M"))
FLOAT32 = 2e-6  # of the largest entry; documented in nets.prox's use: float32 has 1.2e-7, the root adds a few bits

CASES = st.tuples(
    st.integers(0, 10_000),
    st.sampled_from([1, 2, 7, 30]),
    st.floats(0.01, 0.99),
    st.floats(0.05, 5.0),
    st.floats(1e-4, 10.0),
    st.floats(-3.0, 1.0),
)


def draw(case):
    seed, n, alpha, M, step, exponent = case
    rows = np.random.default_rng(seed).normal(size=(9, n)) * 10**exponent
    rows[0] = 0
    return torch.from_numpy(rows), SPR.bind(alpha=alpha, M=M), step


def disagreement(flat, loop):
    return float((flat.double() - loop).abs().max() / loop.abs().max().clamp(min=1e-3))


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_float64_to_the_last_digits(case):
    rows, regulariser, step = draw(case)
    loop = prox_rows(rows, step, regulariser, "loop")
    flat = prox_rows(rows, step, regulariser, "flat")
    assert flat.dtype == torch.float64
    assert disagreement(flat, loop) < 1e-12
    assert torch.equal(flat == 0, loop == 0)


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_float32_stays_float32_with_exact_zeros(case):
    rows, regulariser, step = draw(case)
    loop = prox_rows(rows, step, regulariser, "loop")
    flat = prox_rows(rows.float(), step, regulariser, "flat")
    assert flat.dtype == torch.float32
    thresholds = torch.from_numpy(regulariser.zero_threshold(rows.numpy()))
    clear = (thresholds - step).abs() > 1e-4 * step  # a group on the threshold may fall either way in float32
    # near its threshold a group is a small difference of large numbers: float32 keeps the digits of these, the input's
    assert float((flat.double() - loop).abs()[clear].sum(1).max()) < FLOAT32 * 10 * float(rows.abs().max())
    assert torch.equal((flat[clear] == 0).all(1), (loop[clear] == 0).all(1))


def wrong_maps():
    return {
        "identity": lambda rows, step, r: rows,
        "half the step": lambda rows, step, r: prox_rows(rows, step / 2, r, "flat"),
        "double the step": lambda rows, step, r: prox_rows(rows, step * 2, r, "flat"),
        "group soft threshold": lambda rows, step, r: rows * (1 - step / rows.norm(dim=1, keepdim=True)).clamp(min=0),
        "no box": lambda rows, step, r: prox_rows(rows, step, SPR.bind(alpha=r.parameters["alpha"], M=1e9), "flat"),
    }


@pytest.mark.parametrize("name", sorted(wrong_maps()))
def test_the_comparison_rejects(name):
    rows = torch.from_numpy(np.random.default_rng(1).normal(size=(12, 20)))
    regulariser, step = SPR.bind(alpha=0.2, M=0.8), 0.4
    loop = prox_rows(rows, step, regulariser, "loop")
    assert disagreement(wrong_maps()[name](rows, step, regulariser), loop) > 1e-3


@pytest.mark.parametrize("regularizer", [SPR, MIXED], ids=["spr", "mixed"])
def test_a_whole_network_at_once_is_layer_by_layer(regularizer):
    """Layers of one size share a call: each keeps its own M and step."""
    extra = {"beta": 0.3} if regularizer is MIXED else {}

    def network():
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(2, 4, 3),
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 4, 3),
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 5, 3),
            nn.Conv2d(5, 3, 1),
        ).double()

    results = []
    for implementation in ("loop", "flat"):
        model = network()
        groups = channel_groups(model, torch.zeros(1, 2, 9, 9, dtype=torch.float64))
        regularisers = {
            layer.name: regularizer.bind(alpha=0.1 + 0.1 * i, M=0.2 + 0.3 * i, **extra)
            for i, layer in enumerate(groups.layers)
        }
        steps = {layer.name: 0.02 * i for i, layer in enumerate(groups.layers)}
        prox_step(groups, steps, regularisers, implementation)
        results.append([groups.rows(layer) for layer in groups.layers])
    assert torch.equal(results[0][0], results[1][0])  # step 0: untouched
    for loop, flat in zip(*results, strict=True):
        assert disagreement(flat, loop) < 1e-12


def test_every_number_of_a_large_group_finds_its_root():
    """Newton for one number's root landed on exactly zero, once in 10^5 numbers, and stayed there."""
    regulariser = derive(declare("alpha*s**(3/2)", price="c")).bind(alpha=0.3, c=0.7)
    rows = torch.randn(3, 65_536, generator=torch.Generator().manual_seed(0)) * 0.02
    for step in (0.01, 1e-5):
        loop = prox_rows(rows.double(), step, regulariser, "loop")
        flat = prox_rows(rows, step, regulariser, "flat")
        assert disagreement(flat, loop) < 1e-6
        assert torch.equal(flat == 0, loop == 0)


def test_value_and_threshold_are_the_numpy_ones():
    rows = torch.from_numpy(np.random.default_rng(5).normal(size=(6, 11)) * 0.3)
    regulariser = SPR.bind(alpha=0.3, M=1.5)
    twin = to_torch(regulariser)
    assert np.allclose(twin.value(rows).numpy(), regulariser.value(rows.numpy()), rtol=1e-12)
    assert np.allclose(twin.zero_threshold(rows).numpy(), regulariser.zero_threshold(rows.numpy()), rtol=1e-12)


def test_unknown_implementation_is_refused():
    with pytest.raises(InputError, match="choose loop"):
        prox_rows(torch.ones(1, 2), 0.1, SPR.bind(alpha=0.3, M=1.5), "fast")
