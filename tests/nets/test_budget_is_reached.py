"""The removed network stays within the budget, next to it where channels are fine enough, and the counts are measured."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nets.budget import (
    Budget,
    Gauge,
    channels_for_budget,
    check_reachable,
    even,
    parse_budget,
    removal_order,
    share_left,
    zero_channels,
)
from nets.groups import channel_groups
from nets.limits import Limits, select
from nets.measure import measure
from nets.methods import SPR, Magnitude
from nets.removal import remove_channels
from nets.resnet import resnet20
from perspective import InputError

EXAMPLE = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    model = resnet20(in_channels=1, width=8)
    return model, channel_groups(model, EXAMPLE)


@pytest.mark.parametrize("text", ["macs", "macs=0", "macs=1", "macs=x", "flops=0.5", "macs=nan", "=0.5"])
def test_nonsense_is_refused(text):
    with pytest.raises(InputError, match="KIND=SHARE"):
        parse_budget(text)


@pytest.mark.parametrize("budget", [Budget("macs", 0.5), Budget("params", 0.4), Budget("channels", 0.6)])
@pytest.mark.parametrize("method", [SPR(0.3, 1.0), Magnitude()], ids=["spr", "magnitude"])
def test_reached_from_below(network, budget, method):
    model, groups = copy.deepcopy(network)
    gauge = Gauge(budget, network[0], EXAMPLE)
    scores = method.scores(groups, method.prepare(groups.snapshot()))
    taken = channels_for_budget(model, groups, gauge, scores)
    assert len(set(taken)) == len(taken)
    untouched = copy.deepcopy(network)[0].state_dict()
    assert all(torch.equal(tensor, untouched[name]) for name, tensor in model.state_dict().items())
    zero_channels(groups, taken)
    smaller, difference = remove_channels(model, EXAMPLE)
    assert difference < 1e-4
    reached = getattr(measure(smaller, EXAMPLE), budget.kind) / getattr(measure(network[0], EXAMPLE), budget.kind)
    assert budget.share * 0.99 < reached <= budget.share
    assert min(groups.surviving().values()) >= 2  # 15 % of 8
    fewer = copy.deepcopy(network)
    assert share_left(*fewer, gauge, taken[: len(taken) // 2]) > budget.share


def test_lowest_scores_go_first_and_every_layer_keeps_its_floor(network):
    _, groups = network
    scores = {
        layer.name: torch.arange(layer.channels, dtype=torch.float64) + 100 * (layer.n > 100) for layer in groups.layers
    }
    order = removal_order(groups, scores)
    assert [score for score, _ in order] == sorted(score for score, _ in order)
    taken = [channel for _, channel in order]
    for layer in groups.layers:
        mine = [k for name, k in taken if name == layer.name]
        assert mine == list(range(layer.channels - -(-15 * layer.channels // 100)))


def test_zero_channels_are_counted_and_not_taken_again(network):
    model, groups = copy.deepcopy(network)
    zero_channels(groups, [("layer3.0.conv1", k) for k in range(25)])
    now = share_left(model, groups, Gauge(Budget("macs", 0.9), network[0], EXAMPLE), [])
    assert now < 1
    method = SPR(0.3, 1.0)
    scores = method.scores(groups, method.prepare(groups.snapshot()))
    met = Gauge(Budget("macs", now + 0.01), network[0], EXAMPLE)
    assert channels_for_budget(model, groups, met, scores) == []
    gauge = Gauge(Budget("macs", now - 0.05), network[0], EXAMPLE)
    taken = channels_for_budget(model, groups, gauge, scores)
    assert not {("layer3.0.conv1", k) for k in range(25)} & set(taken)
    assert share_left(model, groups, gauge, taken) <= gauge.budget.share


def test_out_of_reach_is_said_with_the_range_before_training(network):
    model, groups = network
    check_reachable(model, groups, Gauge(Budget("macs", 0.5), model, EXAMPLE))
    with pytest.raises(InputError, match=r"ask for between 0\.\d+ and 1"):
        check_reachable(model, groups, Gauge(Budget("macs", 0.001), model, EXAMPLE))
    with pytest.raises(InputError, match=r"at least 90%"):
        check_reachable(model, groups, Gauge(Budget("macs", 0.5), model, EXAMPLE), Limits(floor=0.9))


@pytest.mark.parametrize("multiple", [2, 4])
def test_layers_keep_a_multiple(network, multiple):
    model, groups = copy.deepcopy(network)
    zero_channels(groups, [("layer3.0.conv1", k) for k in range(3)])  # 29 left: no multiple
    limits, gauge = Limits(round_to=multiple), Gauge(Budget("macs", 0.55), network[0], EXAMPLE)
    scores = Magnitude().scores(groups, {})
    taken = channels_for_budget(model, groups, gauge, even(scores), limits)
    zero_channels(groups, taken)
    for layer in groups.layers:
        left = groups.surviving()[layer.name]
        assert left == layer.channels or left % multiple == 0
        assert left >= limits.least(layer.channels)
    assert 0.5 < share_left(model, groups, gauge, []) <= 0.55


def test_excluded_layers_stay_whole_and_unknown_ones_are_refused(network):
    model, groups = copy.deepcopy(network)
    free = select(groups, Limits(excluded=("conv1", "*.conv2")))
    assert [layer.name for layer in free.layers] == [
        x.name
        for x in groups.layers
        if x.name.endswith("0.conv1") or x.name.endswith("1.conv1") or x.name.endswith("2.conv1")
    ]
    gauge = Gauge(Budget("macs", 0.6), network[0], EXAMPLE)
    taken = channels_for_budget(model, free, gauge, even(Magnitude().scores(free, {})))
    zero_channels(free, taken)
    left = groups.surviving()
    assert all(left[layer.name] == layer.channels for layer in groups.layers if layer.name.endswith("conv2"))
    with pytest.raises(InputError, match="fits no layer"):
        select(groups, Limits(excluded=("conv7",)))
    with pytest.raises(InputError, match="no layer to prune"):
        select(groups, Limits(excluded=("*",)))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.data())
def test_a_multiple_is_kept_and_never_more_than_is_alive(channels, multiple, data):
    alive = data.draw(st.integers(1, channels))
    wanted = data.draw(st.integers(1, alive))
    kept = Limits(round_to=multiple).kept(channels, alive, wanted)
    assert 1 <= kept <= alive
    assert kept % multiple == 0 or kept == channels or alive < multiple
    assert kept >= wanted or kept == alive // multiple * multiple
