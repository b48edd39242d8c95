"""The removed network stays within the budget, next to it where channels are fine enough, and the counts are measured."""

import copy

import pytest
import torch

from nets.budget import (
    Budget,
    channels_for_budget,
    check_reachable,
    parse_budget,
    removal_order,
    share_left,
    zero_channels,
)
from nets.groups import channel_groups
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
    dense = getattr(measure(model, EXAMPLE), budget.kind)
    scores = method.scores(groups, method.prepare(groups.snapshot()))
    taken, last = channels_for_budget(model, groups, EXAMPLE, budget, dense, scores)
    assert last > 0
    assert len(set(taken)) == len(taken)
    untouched = copy.deepcopy(network)[0].state_dict()
    assert all(torch.equal(tensor, untouched[name]) for name, tensor in model.state_dict().items())
    zero_channels(groups, taken)
    smaller, difference = remove_channels(model, EXAMPLE)
    assert difference < 1e-4
    reached = getattr(measure(smaller, EXAMPLE), budget.kind) / dense
    assert budget.share * 0.97 < reached <= budget.share
    assert min(groups.surviving().values()) >= 2  # 15 % of 8
    fewer = copy.deepcopy(network)
    assert share_left(*fewer, EXAMPLE, budget, dense, taken[: len(taken) // 2]) > budget.share


def test_lowest_scores_go_first_and_every_layer_keeps_its_floor(network):
    _, groups = network
    scores = {
        layer.name: torch.arange(layer.channels, dtype=torch.float64) + 100 * (layer.n > 100) for layer in groups.layers
    }
    order, zero = removal_order(groups, scores)
    assert zero == 0
    assert [score for score, _ in order] == sorted(score for score, _ in order)
    taken = [channel for _, channel in order]
    for layer in groups.layers:
        mine = [k for name, k in taken if name == layer.name]
        assert mine == list(range(layer.channels - -(-15 * layer.channels // 100)))


def test_zero_channels_are_counted_and_not_taken_again(network):
    model, groups = copy.deepcopy(network)
    zero_channels(groups, [("layer3.0.conv1", k) for k in range(25)])
    dense = measure(network[0], EXAMPLE).macs
    now = share_left(model, groups, EXAMPLE, Budget("macs", 0.9), dense, [])
    assert now < 1
    method = SPR(0.3, 1.0)
    scores = method.scores(groups, method.prepare(groups.snapshot()))
    taken, last = channels_for_budget(model, groups, EXAMPLE, Budget("macs", now + 0.01), dense, scores)
    assert (taken, last) == ([], 0.0)
    budget = Budget("macs", now - 0.05)
    taken, last = channels_for_budget(model, groups, EXAMPLE, budget, dense, scores)
    assert last > 0
    assert not {("layer3.0.conv1", k) for k in range(25)} & set(taken)
    assert share_left(model, groups, EXAMPLE, budget, dense, taken) <= budget.share


def test_out_of_reach_is_said_with_the_range_before_training(network):
    model, groups = network
    check_reachable(model, groups, EXAMPLE, Budget("macs", 0.5))
    with pytest.raises(InputError, match=r"ask for between 0\.\d+ and 1"):
        check_reachable(model, groups, EXAMPLE, Budget("macs", 0.001))
