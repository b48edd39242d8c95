"""Proximal = the wrapped optimizer's step, then prox_{lr strength n_g / N} of every group, and still a torch optimizer."""

import copy
import pickle

import numpy as np
import pytest
import torch
from small_net import Net
from torch import nn
from torch.nn import functional as F

from nets.groups import channel_groups
from nets.optimizer import Proximal
from nets.prox import prox_rows
from perspective import InputError, declare, derive

REGULARISER = derive(declare("alpha*s**2", price="1-alpha", bound="M")).bind(alpha=0.3, M=1.2)
IMAGES = torch.randn(8, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8) % 3


def network():
    torch.manual_seed(1)
    return Net().double()


def wrapped(model, strength=2.0, lr=0.1, **options):
    groups = channel_groups(model, IMAGES)
    sgd = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    return Proximal(sgd, groups, REGULARISER, strength, **options), groups


def train_step(model, optimizer):
    optimizer.zero_grad()
    F.cross_entropy(model(IMAGES), LABELS).backward()
    return optimizer.step()


def expected(model, weight, order="step first", scale=1.0):
    """One step by hand: plain SGD, then every group by the float64 loop with tau = lr * strength * weight(n, N, channels)."""
    twin = copy.deepcopy(model)
    groups = channel_groups(twin, IMAGES)

    def shrink():
        for layer in groups.layers:
            tau = scale * 0.1 * 2.0 * weight(layer.n, groups.total, layer.channels)
            groups.write(layer, prox_rows(groups.rows(layer), tau, REGULARISER, "loop"))

    if order == "prox first":
        shrink()
    train_step(twin, torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4))
    if order == "step first":
        shrink()
    return twin.state_dict()


def distance(one, two):
    return max(float((one[name] - two[name]).abs().max()) for name in one)


PAPER = lambda n, total, channels: n / total  # noqa: E731


@pytest.mark.parametrize("implementation", ["loop", "flat"])
def test_step_is_the_explicit_formula(implementation):
    model = network()
    truth = expected(model, PAPER)
    optimizer, _ = wrapped(model, implementation=implementation)
    train_step(model, optimizer)
    assert distance(model.state_dict(), truth) < 1e-12


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight": lambda n, total, channels: n * channels / total},
        {"weight": lambda n, total, channels: 1 / 9},
        {"weight": lambda n, total, channels: 1.0},
        {"weight": PAPER, "scale": 0.5},
        {"weight": PAPER, "order": "prox first"},
        {"weight": PAPER, "order": "never"},
    ],
    ids=["by layer", "same for all groups", "unweighted", "half the threshold", "prox before the step", "no prox"],
)
def test_the_formula_rejects(wrong):
    model = network()
    truth = expected(model, PAPER)
    assert distance(expected(model, **wrong), truth) > 1e-5


def test_any_torch_optimizer_can_be_wrapped():
    model = network()
    twin = copy.deepcopy(model)
    groups, twin_groups = channel_groups(model, IMAGES), channel_groups(twin, IMAGES)
    optimizer = Proximal(torch.optim.AdamW(model.parameters(), lr=0.01), groups, REGULARISER, 3.0)
    plain = torch.optim.AdamW(twin.parameters(), lr=0.01)
    for _ in range(3):
        train_step(model, optimizer)
        train_step(twin, plain)
        for layer in twin_groups.layers:
            tau = 0.01 * 3.0 * layer.n / twin_groups.total
            twin_groups.write(layer, prox_rows(twin_groups.rows(layer), tau, REGULARISER, "loop"))
    assert distance(model.state_dict(), twin.state_dict()) < 1e-12


def test_exact_zeros_appear_in_the_network_itself():
    model = network()
    optimizer, groups = wrapped(model, strength=60.0)
    for _ in range(5):
        train_step(model, optimizer)
    assert sum(groups.surviving().values()) < 9
    dead = ~groups.alive(groups["conv1"])
    assert (model.conv1.weight[dead] == 0).all()
    assert (model.bn1.weight[dead] == 0).all()
    assert (model.bn1.bias[dead] == 0).all()


def test_state_round_trip_continues_with_the_same_bits():
    model = network()
    optimizer, _ = wrapped(model)
    for _ in range(3):
        train_step(model, optimizer)
    twin = copy.deepcopy(model)
    other, _ = wrapped(twin, strength=0.0, lr=9.0)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # torch shares the buffers otherwise
    assert other.strength == 2.0
    for _ in range(3):
        train_step(model, optimizer)
        train_step(twin, other)
    assert distance(model.state_dict(), twin.state_dict()) == 0


def test_state_of_another_optimizer_is_refused():
    model = network()
    optimizer, _ = wrapped(model)
    with pytest.raises(InputError, match="no strength"):
        optimizer.load_state_dict(optimizer.inner.state_dict())


@pytest.mark.parametrize("reload", [False, True])
def test_schedulers_move_the_wrapped_rate(reload):
    model = network()
    optimizer, _ = wrapped(model)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2], gamma=0.1)
    if reload:
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    rates = []
    for _ in range(3):
        train_step(model, optimizer)
        rates.append(optimizer.inner.param_groups[0]["lr"])
        scheduler.step()
    assert np.allclose(rates, [0.1, 0.01, 0.001])


def test_the_rate_of_the_groups_own_parameter_group_counts():
    """conv2 has a tenth of the rate: it moves as if the strength were a tenth."""
    model = network()
    slow = [model.conv2.weight, model.conv2.bias]
    fast = [p for p in model.parameters() if all(p is not q for q in slow)]
    groups = channel_groups(model, IMAGES)
    optimizer = Proximal(
        torch.optim.SGD([{"params": fast}, {"params": slow, "lr": 0.01}], lr=0.1), groups, REGULARISER, 2.0
    )
    before = {layer.name: groups.rows(layer) for layer in groups.layers}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, lr in (("conv1", 0.1), ("conv2", 0.01)):
        layer = groups[name]
        truth = prox_rows(before[name], lr * 2.0 * layer.n / groups.total, REGULARISER, "loop")
        assert torch.allclose(groups.rows(layer), truth, rtol=0, atol=1e-13)


def test_different_rates_within_one_group_are_refused():
    model = network()
    rest = [p for p in model.parameters() if p is not model.bn1.weight]
    sgd = torch.optim.SGD([{"params": rest}, {"params": [model.bn1.weight], "lr": 1.0}], lr=0.1)
    with pytest.raises(InputError, match="different learning rates"):
        Proximal(sgd, channel_groups(model, IMAGES), REGULARISER, 1.0)


def test_a_tensor_outside_the_optimizer_is_refused():
    model = network()
    sgd = torch.optim.SGD(model.linear.parameters(), lr=0.1)
    with pytest.raises(InputError, match="does not train every tensor of conv1"):
        Proximal(sgd, channel_groups(model, IMAGES), REGULARISER, 1.0)


def test_a_layer_without_regulariser_is_refused():
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(InputError, match="missing"):
        Proximal(sgd, channel_groups(model, IMAGES), {"conv1": REGULARISER}, 1.0)


@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf"), "much"])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(InputError, match="strength"):
        wrapped(network(), strength=strength)


@pytest.mark.parametrize("regulariser", ["x", REGULARISER.regularizer, {"conv1": None, "conv2": None}])
def test_a_regulariser_without_numbers_is_refused(regulariser):
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(InputError, match="bind"):
        Proximal(sgd, channel_groups(model, IMAGES), regulariser, 1.0)


def test_a_copy_made_with_its_model_trains_the_copied_model():
    model = network()
    optimizer, _ = wrapped(model)
    train_step(model, optimizer)
    for twin, twin_optimizer in (copy.deepcopy((model, optimizer)), pickle.loads(pickle.dumps((model, optimizer)))):
        before = copy.deepcopy(model.state_dict())
        train_step(twin, twin_optimizer)
        assert distance(model.state_dict(), before) == 0
        reference, reference_optimizer = copy.deepcopy((model, optimizer))
        train_step(reference, reference_optimizer)
        assert distance(twin.state_dict(), reference.state_dict()) == 0
        assert distance(twin.state_dict(), before) > 0


def test_state_loaded_into_the_wrapped_optimizer_is_followed():
    model = network()
    optimizer, _ = wrapped(model)
    optimizer.inner.load_state_dict(optimizer.inner.state_dict())
    train_step(model, optimizer)
    assert optimizer.param_groups is optimizer.inner.param_groups
    assert optimizer.state is optimizer.inner.state


def test_added_parameters_are_trained_and_closures_return_their_loss():
    model = network()
    optimizer, _ = wrapped(model)
    extra = nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer.add_param_group({"params": [extra], "lr": 0.5})
    assert len(optimizer.inner.param_groups) == len(optimizer.param_groups) == 2

    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(IMAGES), LABELS) + extra.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() > 2.0
    assert torch.allclose(extra, torch.full_like(extra, 0.5 - 0.5 * 5e-4))


def test_penalty_is_the_explicit_sum():
    model = network()
    optimizer, groups = wrapped(model)
    train_step(model, optimizer)
    explicit = sum(
        layer.n * float(REGULARISER.value(row.numpy())) for layer in groups.layers for row in groups.rows(layer)
    ) / sum(layer.n * layer.channels for layer in groups.layers)
    assert optimizer.penalty() == pytest.approx(explicit, rel=1e-12)


def test_float32_penalty_is_finite_after_a_step():
    """A weight clipped to the box in float32 must not count as outside of it."""
    torch.manual_seed(1)
    model = Net()
    groups = channel_groups(model, IMAGES.float())
    tight = derive(declare("alpha*s**2", price="1-alpha", bound="M"))
    boxes = {layer.name: tight.bind(alpha=0.3, M=0.1 + 0.01 * i) for i, layer in enumerate(groups.layers)}
    optimizer = Proximal(torch.optim.SGD(model.parameters(), lr=0.1), groups, boxes, 0.01)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert max(p.abs().max().item() for p in groups["conv1"].parameters) == pytest.approx(0.1)
    assert np.isfinite(optimizer.penalty())
