"""The controller's prices bring the planned channels, and no others, to zero; survivors are not shrunk by it."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nets.groups import channel_groups
from nets.methods import SPR
from nets.optimizer import Proximal
from nets.resnet import resnet20
from nets.settings import new_settings
from nets.training.controller import RAMP, Controller
from nets.training.schedule import SHAPES, Schedule, linear_growth
from perspective import InputError

EXAMPLE = torch.zeros(2, 1, 8, 8)


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = resnet20(in_channels=1, width=4)
    return model, channel_groups(model, EXAMPLE)


def phase(model, groups, method, targets, epochs, steps, schedule):
    """A phase without a loss: the shrinkage alone must do what the thresholds promise."""
    prepared = method.prepare(groups.snapshot())
    controller = Controller(groups, prepared, targets, schedule, epochs, steps)
    optimizer = Proximal(torch.optim.SGD(model.parameters(), lr=1.0), groups, prepared, strength=1.0)
    zeros = []
    for epoch in range(epochs):
        optimizer.prices = controller.prices(epoch)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(epoch * steps + step, epochs * steps)
            optimizer.zero_grad(set_to_none=True)
            optimizer.step()
        zeros.append({name: groups[name].channels - left for name, left in groups.surviving().items()})
    return controller, zeros


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", [SPR(0.001, 50.0), SPR(0.1, 1.0)], ids=["homogeneous", "flat at the box"])
def test_zeros_follow_the_plan_epoch_by_epoch(network, shape, method):
    model, groups = network
    with torch.no_grad():
        for p in model.parameters():  # no ties: gamma = 1 everywhere would put every group at the box
            p.mul_(1 + 0.3 * torch.rand(len(p), *[1] * (p.dim() - 1)))
    before = copy.deepcopy(groups.snapshot())
    targets = {layer.name: layer.channels // 2 for layer in groups.layers[1:]}
    controller, zeros = phase(model, groups, method, targets, 6, 5, Schedule(0.3, shape))
    for epoch, found in enumerate(zeros):
        for name, target in targets.items():
            now, last = (controller.planned(target, e) for e in (epoch, epoch - 1))
            # a group of which r is a norm dies as predicted; at the threshold itself a rounding decides
            assert (now - 1 if method.m_scale > 1 else last) <= found[name] <= target
    assert zeros[-1] == {"conv1": 0, **targets}
    for layer in groups.layers:
        same = (groups.rows(layer) == before[layer.name]).all(1)
        assert int(same.sum()) == layer.channels - targets.get(layer.name, 0)  # the survivors are untouched
        assert torch.equal(same, groups.alive(layer))


def test_a_dead_channel_is_held_at_zero(network):
    model, groups = network
    layer = groups["layer1.0.conv1"]
    rows = groups.rows(layer)
    rows[1] = 0
    groups.write(layer, rows)
    prepared = SPR(0.1, 1.0).prepare(groups.snapshot())
    optimizer = Proximal(torch.optim.SGD(model.parameters(), lr=0.1), groups, prepared, strength=1.0)
    optimizer.prices = Controller(groups, prepared, {}, Schedule(0.1), 2, 1).prices(0)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert (groups.rows(layer)[1] == 0).all()
    assert (groups.rows(layer)[0] != rows[0]).all()


@pytest.mark.parametrize("implementation", ["flat", "loop"])
def test_prices_act_one_channel_at_a_time(network, implementation):
    model, groups = network
    prepared = SPR(0.3, 1.0).prepare(groups.snapshot())
    inner = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer = Proximal(inner, groups, prepared, strength=500.0, implementation=implementation)
    layer = groups["layer2.1.conv1"]
    before = groups.rows(layer)
    price = torch.ones(layer.channels, dtype=torch.float64)
    price[0], price[1], price[2] = 0.0, math.inf, 2.0
    optimizer.prices = {layer.name: price}
    optimizer.step()
    after = groups.rows(layer)
    assert torch.equal(after[0], before[0])
    assert (after[1] == 0).all()
    tau = 0.1 * 500.0 * optimizer.share(layer)
    for k, factor in ((2, 2.0), (3, 1.0)):
        expected = prepared[layer.name].prox(before[k].double().numpy(), tau * factor)
        torch.testing.assert_close(after[k].double(), torch.from_numpy(expected), rtol=1e-5, atol=1e-7)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 200), st.integers(1, 60))
def test_the_plan_rises_to_its_target(target, epochs):
    controller = Controller(None, {}, {}, Schedule(1.0), epochs, 1)
    planned = [controller.planned(target, epoch) for epoch in range(epochs)]
    assert planned == sorted(planned)
    assert planned[-1] == target
    assert all(p == target for e, p in enumerate(planned) if e + 1 >= RAMP * epochs)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("warmup", [0.0, 0.1])
def test_a_schedule_starts_and_sums_as_it_says(shape, warmup):
    schedule = Schedule(0.4, shape, warmup)
    rates = [schedule.rate(step, 50) for step in range(50)]
    assert max(rates) == pytest.approx(0.4)
    assert rates[round(warmup * 50)] == pytest.approx(0.4)
    assert rates[: round(warmup * 50)] == sorted(rates[: round(warmup * 50)])
    assert schedule.total(0, 50, 50) == pytest.approx(sum(rates))
    assert all(rate > 0 for rate in rates)
    if shape == "steps" and not warmup:
        assert [round(0.4 / rate) for rate in (rates[24], rates[25], rates[37], rates[38], rates[45])] == [
            1,
            10,
            10,
            100,
            1000,
        ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_pieces_of_a_schedule_are_the_whole(shape, warmup):
    whole = Schedule(0.4, shape, warmup, steps_at=(0.31, 0.77))
    first, second = replace(whole, ends=0.375), replace(whole, begins=0.375)  # 3 epochs and 5, of 10 steps
    rates = [first.rate(k, 30) for k in range(30)] + [second.rate(k, 50) for k in range(50)]
    assert rates == pytest.approx([whole.rate(k, 80) for k in range(80)])


def test_a_finetuning_may_continue_the_schedule():
    given = {"net": "resnet20", "data": "digits", "method": "spr", "epochs": 3, "finetune_epochs": 5, "lr": 0.4}
    found = new_settings("prune", {**given, "dense": "x", "finetune_schedule": "continue"})
    whole = Schedule(0.4)
    both = [found.rates(0.4).rate(k, 30) for k in range(30)] + [
        found.rates(0.4, "finetune", 3).rate(k, 50) for k in range(50)
    ]
    assert both == pytest.approx([whole.rate(k, 80) for k in range(80)])
    early = [found.rates(0.4, "finetune", 2).rate(k, 60) for k in range(60)]  # the phase ended an epoch early
    assert early == pytest.approx([whole.rate(k, 80) for k in range(20, 80)])
    alone = [found.rates(0.4, "finetune").rate(k, 80) for k in range(80)]  # a method without regularised phase
    assert alone == pytest.approx([whole.rate(k, 80) for k in range(80)])
    assert found.rates(0.4, "dense") == whole
    assert found.rates(0.4, "finetune", 8) == whole  # no epochs are left: never stepped


def test_linear_growth_keeps_the_total():
    schedule = Schedule(0.1)
    factors = [linear_growth(schedule, e, 8) for e in range(8)]
    rates = [schedule.rate(e, 8) for e in range(8)]
    assert factors == sorted(factors)
    assert factors[1] == pytest.approx(2 * factors[0])
    assert sum(f * r for f, r in zip(factors, rates, strict=True)) == pytest.approx(sum(rates))


@pytest.mark.parametrize(
    "bad",
    [
        {"lr": 0.0},
        {"lr": math.nan},
        {"lr": 1.0, "shape": "square"},
        {"lr": 1.0, "warmup": 1.0},
        {"lr": 1.0, "begins": 0.5, "ends": 0.5},
        {"lr": 1.0, "begins": -0.1},
    ],
)
def test_bad_schedules_are_refused(bad):
    with pytest.raises(InputError):
        Schedule(**bad)
