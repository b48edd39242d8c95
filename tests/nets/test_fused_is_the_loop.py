"""The fused prox gives the numbers of the float64 loop: every cost, dtype and size, wherever the group's numbers lie."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ragged_groups import ragged
from torch import nn

import nets.fused.sweep
from nets.fused.sweep import prox_fused
from nets.groups import ChannelGroups, channel_groups
from nets.prox import prox_step
from nets.structures.slices import Layer, Span
from perspective import InputError, derive
from perspective.catalogue.elastic import elastic
from perspective.catalogue.huber import huber
from perspective.catalogue.power import power
from perspective.catalogue.spr import spr

COSTS = {
    "spr": derive(spr()),
    "elastic": derive(elastic()),
    "power": derive(power()),
    "huber": derive(huber(bounded=False)),
}
NUMBERS = {"alpha": 0.3, "beta": 0.2, "c": 0.7, "d": 0.4, "M": 1.5}
# of a group's largest number: float64 keeps 1e-12, float32 is rounded once (half of 1.2e-7, and the box's edge)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1.3e-7}


def bound(name, groups, box=None):
    """A regulariser for each layer, each with its own box."""
    found = {}
    for i, layer in enumerate(groups.layers):
        numbers = {**NUMBERS, "M": (0.3 + 0.4 * i) if box is None else box}
        found[layer.name] = COSTS[name].bind(**{p: numbers[p] for p in COSTS[name].block.parameters})
    return found


def steps_of(groups, step):
    return {layer.name: step * (1 + i) for i, layer in enumerate(groups.layers)}


def moved(groups, steps, regularisers, implementation):
    """The rows after the step, in a copy of the groups."""
    twin = copy.deepcopy(groups)
    prox_step(twin, steps, regularisers, implementation)
    return [twin.rows(layer) for layer in twin.layers]


def disagreement(one, two, before):
    """The largest difference, over a group's largest number before the step."""
    worst = 0.0
    for a, b, v in zip(one, two, before, strict=True):
        size = v.double().abs().amax(dim=1, keepdim=True).clamp(min=1e-300)
        worst = max(worst, float(((a.double() - b.double()).abs() / size).max()))
    return worst


def same_zeros(one, two):
    return all(torch.equal(a == 0, b == 0) for a, b in zip(one, two, strict=True))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(sorted(COSTS)),
    st.sampled_from(sorted(TOLERANCE, key=str)),
    st.floats(1e-4, 10.0),
    st.lists(st.sampled_from([1, 2, 3, 7, 31]), min_size=1, max_size=3),
    st.one_of(st.none(), st.floats(0.01, 100.0)),
)
def test_values_and_exact_zeros_are_the_loops(seed, cost, dtype, step, sizes, box):
    groups = ragged(sizes, dtype=dtype, seed=seed)
    steps, regularisers = steps_of(groups, step), bound(cost, groups, box)
    before = [groups.rows(layer) for layer in groups.layers]
    loop = moved(groups, steps, regularisers, "loop")
    fused = moved(groups, steps, regularisers, "fused")
    assert all(a.dtype == dtype for a in fused)
    assert disagreement(fused, loop, before) <= TOLERANCE[dtype]
    assert same_zeros(fused, loop)


@pytest.mark.parametrize("dtype", sorted(TOLERANCE, key=str), ids=str)
@pytest.mark.parametrize("cost", sorted(COSTS))
def test_large_and_ragged_sizes(cost, dtype):
    groups = ragged((1, 31, 1023, 4609, 65_536), channels=3, dtype=dtype)
    steps, regularisers = steps_of(groups, 0.03), bound(cost, groups)
    before = [groups.rows(layer) for layer in groups.layers]
    loop, flat, fused = (moved(groups, steps, regularisers, name) for name in ("loop", "flat", "fused"))
    assert disagreement(fused, loop, before) <= TOLERANCE[dtype]
    assert disagreement(fused, flat, before) <= (1e-12 if dtype == torch.float64 else 2e-6)
    assert same_zeros(fused, loop)


def network(dtype=torch.float64):
    torch.manual_seed(3)
    layers = (nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.Flatten(), nn.Linear(196, 3))
    return nn.Sequential(*layers).to(dtype)


IMAGES = torch.zeros(1, 2, 9, 9, dtype=torch.float64)


@pytest.mark.parametrize("coupled", [False, True])
def test_a_network_in_any_memory_format(coupled):
    groups = channel_groups(network(), IMAGES, coupled=coupled)
    before = [groups.rows(layer) for layer in groups.layers]
    steps, regularisers = steps_of(groups, 0.05), bound("spr", groups)
    loop = moved(groups, steps, regularisers, "loop")
    model = network().to(memory_format=torch.channels_last)
    last = channel_groups(model, IMAGES, coupled=coupled)
    prox_fused(last, steps, regularisers)
    assert not model[0].weight.is_contiguous()
    assert disagreement([last.rows(layer) for layer in last.layers], loop, before) <= 1e-12


def replace_data(model):
    for parameter in model.parameters():
        parameter.data = parameter.detach().clone()


def load_state(model):
    model.load_state_dict(copy.deepcopy(model.state_dict()))


@pytest.mark.parametrize(
    "change", [replace_data, load_state, lambda model: model.to(memory_format=torch.channels_last), nn.Module.float]
)
def test_what_user_code_does_to_the_parameters_is_followed(change):
    model = network()
    groups = channel_groups(model, IMAGES)
    steps, regularisers = steps_of(groups, 0.05), bound("spr", groups)
    prox_fused(groups, steps, regularisers)
    before = [groups.rows(layer) for layer in groups.layers]
    loop = moved(groups, steps, regularisers, "loop")
    change(model)
    prox_fused(groups, steps, regularisers)
    dtype = model[0].weight.dtype
    assert disagreement([groups.rows(layer) for layer in groups.layers], loop, before) <= 2 * TOLERANCE[dtype]


def test_zero_price_leaves_alone_and_infinite_price_makes_zero():
    groups = ragged((9, 31), channels=6)
    regularisers = bound("huber", groups)
    price = torch.tensor([0.0, 1.0, float("inf"), 0.0, 2.0, float("inf")], dtype=torch.float64)
    steps = {layer.name: 0.05 * price for layer in groups.layers}
    before = [groups.rows(layer).clone() for layer in groups.layers]
    loop = moved(groups, steps, regularisers, "loop")
    report = prox_fused(groups, steps, regularisers, report=True)
    after = [groups.rows(layer) for layer in groups.layers]
    assert disagreement(after, loop, before) <= 1e-12
    for v, w in zip(before, after, strict=True):
        assert torch.equal(v[price == 0], w[price == 0])
        assert (w[price == torch.inf] == 0).all()
    for found in report.values():
        assert np.array_equal(np.isnan(found.indicator), price.numpy() == 0)
        assert (found.zero[price.numpy() == np.inf] == 1).all()


@pytest.mark.parametrize("cost", sorted(COSTS))
def test_the_report_is_the_regularisers_own(cost):
    groups = ragged((1, 7, 31), channels=8, seed=4)
    regularisers, steps = bound(cost, groups), steps_of(groups, 0.2)
    report = prox_fused(groups, steps, regularisers, report=True)
    for layer in groups.layers:
        rows, found = groups.rows(layer).numpy(), report[layer.name]
        alive = (rows != 0).any(axis=1)
        assert np.array_equal(found.zero == 0, alive)
        assert np.allclose(found.value, regularisers[layer.name].value(rows), rtol=1e-9, atol=1e-13)
        assert np.allclose(found.indicator[alive], regularisers[layer.name].indicator(rows)[alive], rtol=1e-8)
        inside = (found.indicator > 0) & (found.indicator < 1)
        assert (np.abs(found.residual[inside]) < 1e-12).all()
        assert (found.residual[found.indicator == 1] <= 0).all()
        assert (found.residual[~alive] >= 0).all()


@pytest.mark.parametrize("cost", sorted(COSTS))
def test_a_warm_start_changes_rounding_only(cost):
    groups = ragged((1, 7, 31), channels=8, seed=4)
    regularisers, steps = bound(cost, groups), steps_of(groups, 0.2)
    before = [groups.rows(layer) for layer in groups.layers]
    cold = moved(groups, steps, regularisers, "fused")
    for start in (0.0, 1e-9, 0.3, 1.0):
        twin = copy.deepcopy(groups)
        starts = {layer.name: np.full(layer.channels, start) for layer in groups.layers}
        prox_fused(twin, steps, regularisers, starts=starts)
        warm = [twin.rows(layer) for layer in twin.layers]
        assert disagreement(warm, cold, before) <= 1e-12
        assert same_zeros(warm, cold)


def test_extreme_groups_end_and_propagate():
    groups = ragged((4,), channels=6, gathered=False)
    filters, gamma = groups.layers[0].spans[0].parameter, groups.layers[0].spans[1].parameter
    with torch.no_grad():
        filters[0], gamma[0], groups.layers[0].spans[2].parameter[0] = 0, 0, 0
        filters[1] = float("nan")
        gamma[2] = float("inf")
        filters[3] = 1e-310
        filters[4] = 1e300
    regularisers, steps = bound("spr", groups), steps_of(groups, 0.1)
    prox_fused(groups, steps, regularisers)
    rows = groups.rows(groups.layers[0])
    assert (rows[0] == 0).all()
    assert rows[1].isnan().all()
    assert rows[2:].isfinite().all()
    assert rows[[2, 4]].abs().amax(dim=1).numpy() == pytest.approx([0.3, 0.3])


def test_the_same_bits_with_any_number_of_threads(monkeypatch):
    groups = ragged((9, 130), channels=400, dtype=torch.float32)
    regularisers, steps = bound("spr", groups), steps_of(groups, 0.1)
    one = moved(groups, steps, regularisers, "fused")
    monkeypatch.setattr(nets.fused.sweep, "SHARE", 1000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    three = moved(groups, steps, regularisers, "fused")
    assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


@pytest.mark.parametrize(("count", "size"), [(100_000, 2), (1_000_000, 1)])
def test_many_small_groups_and_an_empty_layer(count, size):
    parameter = nn.Parameter(torch.randn(count, size, generator=torch.Generator().manual_seed(0)))
    layers = (
        Layer("many", None, (Span(parameter),), count, ("many",)),
        Layer("none", None, (Span(nn.Parameter(torch.zeros(4, 0))),), 4, ("none",)),
    )
    groups = ChannelGroups(layers)
    regulariser = COSTS["spr"].bind(alpha=0.3, M=1.5)
    truth = regulariser.prox(parameter.detach().double().numpy(), 0.4)
    prox_fused(groups, {"many": 0.4, "none": 0.4}, {"many": regulariser, "none": regulariser})
    assert np.abs(parameter.detach().numpy() - truth).max() <= 1e-6
    assert np.array_equal(parameter.detach().numpy() == 0, truth == 0)


def test_backward_through_overwritten_weights_is_noticed():
    model = network()
    groups = channel_groups(model, IMAGES)
    loss = model(torch.ones_like(IMAGES, requires_grad=True)).sum()
    prox_fused(groups, steps_of(groups, 0.05), bound("spr", groups))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def forget_gamma(groups):
    layers = tuple(
        Layer(layer.name, None, layer.spans[:1] + layer.spans[2:], layer.channels, layer.members)
        for layer in groups.layers
    )
    return ChannelGroups(layers)


@pytest.mark.parametrize("mutant", ["gamma forgotten", "steps of other layers", "boxes of other layers", "one step"])
def test_the_comparison_rejects(mutant, monkeypatch):
    groups = ragged((9, 31, 12), channels=20, gathered=False)
    regularisers, steps = bound("spr", groups), steps_of(groups, 0.05)
    before = [groups.rows(layer) for layer in groups.layers]
    loop = moved(groups, steps, regularisers, "loop")
    twin = copy.deepcopy(groups)
    worked = forget_gamma(twin) if mutant == "gamma forgotten" else twin
    names = [layer.name for layer in groups.layers]
    shifted = dict(zip(names, names[1:] + names[:1], strict=True))
    if mutant == "steps of other layers":
        steps = {name: steps[shifted[name]] for name in names}
    if mutant == "boxes of other layers":
        regularisers = {name: regularisers[shifted[name]] for name in names}
    if mutant == "one step":
        monkeypatch.setattr(nets.fused.sweep, "TOLERANCE", {torch.float64: 1e9})
    prox_fused(worked, steps, regularisers)
    assert disagreement([twin.rows(layer) for layer in twin.layers], loop, before) > 1e-4


def test_where_it_cannot_run_it_says_so():
    for dtype, change, words in (
        (torch.bfloat16, lambda model: None, "float32 or float64"),
        (torch.float32, lambda model: model[3].double(), "all of one kind"),
    ):
        model = network()
        groups = channel_groups(model, IMAGES)
        model.to(dtype)
        change(model)
        with pytest.raises(InputError, match=words):
            prox_step(groups, steps_of(groups, 0.1), bound("spr", groups), "fused")
    far = Span(nn.Parameter(torch.zeros(3, 2, device="meta")))
    away = ChannelGroups((Layer("away", None, (far,), 3, ("away",)),))
    with pytest.raises(InputError, match="on the CPU or on one GPU"):
        prox_fused(away, {"away": 0.1}, bound("spr", away))
    gaps = ragged((4,), gathered=False)
    gaps.layers[0].spans[0].parameter.data = torch.zeros(5, 4, dtype=torch.float64)[:, :2]
    with pytest.raises(InputError, match="gaps in memory"):
        prox_fused(gaps, steps_of(gaps, 0.1), bound("spr", gaps))
    with pytest.raises(InputError, match="negative"):
        prox_fused(ragged((4,)), {"layer0": -1.0, "columns": 0.1}, bound("spr", ragged((4,))))
