"""Allocation by error: the hull is the convex one, the budget's channels are the cheapest by brute force, and what costs the
answers nothing goes first."""

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nets import load
from nets.budget import Budget, Gauge, channels_for_budget, share_left
from nets.data import load_data
from nets.groups import channel_groups
from nets.limits import Limits, select
from nets.settings import new_settings
from nets.train import train
from nets.training.sensitivity import Sensitivity, lower_hull, measure_sensitivity, priced
from perspective import InputError


class Chain(nn.Module):
    """Two convolutions with normalisation, of which only the first may lose channels for free, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.second, self.last = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        return self.linear(torch.relu(self.last(self.second(x))).mean((2, 3)))


@pytest.fixture
def chain():
    torch.manual_seed(0)
    return Chain().eval()


IMAGES = torch.randn(16, 3, 6, 6, generator=torch.Generator().manual_seed(1))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=2, max_size=12))
def test_the_hull_is_the_largest_convex_function_below(errors):
    hull = lower_hull(errors)
    assert (hull <= np.array(errors) + 1e-9).all()
    assert (np.diff(hull, 2) >= -1e-9).all()
    best = [  # the least chord over each point, by brute force
        min(
            errors[a] if a == b else errors[a] + (errors[b] - errors[a]) * (k - a) / (b - a)
            for a, b in itertools.product(range(k + 1), range(k, len(errors)))
        )
        for k in range(len(errors))
    ]
    assert hull == pytest.approx(best, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_the_cheapest_prices_are_the_least_total_error(seed, count):
    draw = np.random.default_rng(seed)
    known, scores = {}, {}
    for name, channels in (("a", 4), ("b", 6)):
        errors = np.concatenate([[0.0], np.sort(draw.random(channels)).cumsum()])  # convex
        known[name] = Sensitivity(tuple(errors), 0.05)
        scores[name] = torch.from_numpy(draw.random(channels) + 0.1)
    prices = priced(scores, known)
    taken = sorted((float(p), name) for name, values in prices.items() for p in values)[:count]
    lost = [sum(name == layer for _, name in taken) for layer in known]
    total = sum(known[name].errors[k] for name, k in zip(known, lost, strict=True))
    every = [(k, count - k) for k in range(5) if 0 <= count - k <= 6]
    assert total <= min(known["a"].errors[k] + known["b"].errors[m] for k, m in every) + 1e-4


def test_prices_keep_the_order_of_the_scores_and_zeros_stay_zero():
    scores = {"a": torch.tensor([3.0, 0.0, 1.0, 2.0], dtype=torch.float64)}
    price = priced(scores, {"a": Sensitivity((0.0, 0.0, 0.0, 1.0, 2.0), 0.1)})["a"]
    assert price[1] == 0
    assert price.argsort().tolist() == [1, 2, 3, 0]
    assert len(set(price.tolist())) == 4
    nothing_saved = priced(scores, {"a": Sensitivity((0.0, 0.0, 0.0, 1.0, 2.0), 0.0)})["a"]
    assert nothing_saved.tolist() == [np.inf, 0.0, np.inf, np.inf]


def test_errors_are_those_of_the_network_without_the_channels(chain):
    groups = channel_groups(chain, IMAGES[:1])
    before = copy.deepcopy(chain.state_dict())
    found = measure_sensitivity(chain, groups, IMAGES, Budget("macs", 0.5))
    assert all(torch.equal(before[name], tensor) for name, tensor in chain.state_dict().items())
    assert not chain.training
    norms = torch.cat([chain.first.weight.flatten(1), chain.norm.weight[:, None], chain.norm.bias[:, None]], 1).norm(
        dim=1
    )
    twin = copy.deepcopy(chain).train()  # statistics of these very images, as the measurement has
    truth = twin(IMAGES).double().log_softmax(1)
    with torch.no_grad():
        gone = norms.argsort()[:3]
        for parameter in (twin.first.weight, twin.norm.weight, twin.norm.bias):
            parameter[gone] = 0
        answers = twin(IMAGES).double().log_softmax(1)
    wanted = float((truth.exp() * (truth - answers)).sum(1).mean().detach())
    assert found["first"].errors[3] == pytest.approx(wanted, rel=1e-4)
    assert found["first"].errors[0] == 0
    gauge = Gauge(Budget("macs", 0.5), chain, IMAGES[:1])
    assert found["first"].saved == pytest.approx(1 - share_left(chain, groups, gauge, [("first", int(gone[0]))]))


def test_bfloat16_sees_the_same_errors(chain):
    groups = channel_groups(chain, IMAGES[:1])
    exact, rough = (measure_sensitivity(chain, groups, IMAGES, Budget("macs", 0.5), p) for p in ("float32", "bfloat16"))
    for name, one in exact.items():
        assert rough[name].saved == one.saved
        assert rough[name].errors != one.errors
        assert rough[name].errors == pytest.approx(one.errors, abs=0.03 * max(one.errors))


def test_what_the_answers_do_not_need_goes_first(chain):
    with torch.no_grad():
        chain.second.weight[:, [1, 4, 6]] = 0  # nothing reads these channels, however large they are
        chain.first.weight[[1, 4, 6]] *= 0.5
        chain.linear.weight *= 20
    groups = channel_groups(chain, IMAGES[:1])
    found = measure_sensitivity(chain, groups, IMAGES, Budget("macs", 0.8))
    assert max(found["first"].errors[:4]) < 1e-6 < found["second"].errors[2]
    scores = {layer.name: groups.rows(layer).double().norm(dim=1) for layer in groups.layers}
    gauge = Gauge(Budget("macs", 0.75), chain, IMAGES[:1])
    taken = channels_for_budget(chain, groups, gauge, priced(scores, found), Limits())
    assert {("first", 1), ("first", 4), ("first", 6)} >= set(taken)


def test_outputs_that_are_no_scores_and_numbers_that_are_none_are_refused(chain):
    groups = channel_groups(chain, IMAGES[:1])
    chain.linear = nn.Identity()
    pictures = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)).eval()
    with pytest.raises(InputError, match="allocation even"):
        measure_sensitivity(pictures, channel_groups(pictures, IMAGES[:1]), IMAGES, Budget("macs", 0.5))
    with torch.no_grad():
        chain.last.weight[0] = float("nan")
    with pytest.raises(InputError, match=r"not finite|not numbers"):
        measure_sensitivity(chain, groups, IMAGES, Budget("macs", 0.5))


@pytest.mark.parametrize("method", ["magnitude", "spr"])
def test_a_run_leaves_each_layer_what_the_prices_of_its_dense_network_say(method, tmp_path):
    asked = {"net": "resnet20", "width": 4, "data": "digits", "batch_size": 512, "exclude": "conv1,*.conv2"}
    asked |= {"method": method, "epochs": 1, "finetune_epochs": 1, "budget": "macs=0.5", "allocation": "error"}
    chosen = new_settings("train", asked)
    result = train(chosen, tmp_path / "run")
    dense, data = load(tmp_path / "run" / "dense").eval(), load_data("digits", None)
    groups = select(channel_groups(dense, data.example_inputs), chosen.limits)
    found = measure_sensitivity(dense, groups, data.training_images(256, 0), chosen.budget_asked)
    scores = {layer.name: groups.rows(layer).double().norm(dim=1) for layer in groups.layers}
    gauge = Gauge(chosen.budget_asked, dense, data.example_inputs)
    taken = channels_for_budget(dense, groups, gauge, priced(scores, found), chosen.limits)
    lost = {layer.name: sum(name == layer.name for name, _ in taken) for layer in groups.layers}
    assert {layer["name"]: layer["before"] - layer["after"] for layer in result["layers"]} == lost
    assert len(set(lost.values())) > 1
