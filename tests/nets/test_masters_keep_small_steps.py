"""bfloat16 weights with float32 masters: what is trained is the float32 network, and the weights are its roundings."""

import copy

import pytest
import torch
from torch import nn

from nets.groups import channel_groups
from nets.optimizer import Proximal
from perspective import declare, derive

REGULARISER = derive(declare("alpha*s**2", price="1-alpha", bound="M")).bind(alpha=0.3, M=0.4)
KINDS = {
    "sgd": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-2}),
    "adamw": (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.5}),
}


def network(dtype):
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(2, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.Flatten()
    )
    with torch.no_grad():  # numbers that bfloat16 holds too
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    return model.to(dtype)


def wrapped(model, kind, implementation, master):
    groups = channel_groups(model, torch.zeros(1, 2, 6, 6, dtype=model[0].weight.dtype))
    inner, options = KINDS[kind]
    strength = {"sgd": 20.0, "adamw": 200.0}[kind]
    return Proximal(inner(model.parameters(), **options), groups, REGULARISER, strength, implementation, master=master)


def train(model, optimizer, seeds, size=0.1):
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            gradient = size * torch.randn(parameter.shape, generator=generator)
            parameter.grad = gradient.bfloat16().to(parameter.dtype)
        optimizer.step()


def masters(model, optimizer):
    return [optimizer.state[parameter]["master"] for parameter in model.parameters()]


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("implementation", ["loop", "flat", "fused", "fused_step"])
def test_masters_are_the_float32_network(kind, implementation):
    low, full = network(torch.bfloat16), network(torch.float32)
    optimizer = wrapped(low, kind, implementation, master=True)
    train(low, optimizer, range(4))
    train(full, wrapped(full, kind, implementation, master=False), range(4))
    for parameter, master, truth in zip(low.parameters(), masters(low, optimizer), full.parameters(), strict=True):
        assert parameter.dtype == torch.bfloat16
        assert torch.equal(master, truth)
        assert torch.equal(parameter, master.bfloat16())
        assert torch.equal(parameter == 0, master == 0)
    assert sum(optimizer.groups.surviving().values()) < 9


def test_small_steps_are_not_lost():
    """A weight of one and steps of 1e-4: bfloat16 alone never moves, its master does."""
    moved = {}
    for master in (False, True):
        model = network(torch.bfloat16)
        groups = channel_groups(model, torch.zeros(1, 2, 6, 6, dtype=torch.bfloat16))
        optimizer = Proximal(
            torch.optim.SGD(model.parameters(), lr=1e-4), groups, REGULARISER, 0.0, "flat", master=master
        )
        before = model[1].weight.detach().clone()
        for _ in range(60):
            model[1].weight.grad = torch.ones_like(model[1].weight)
            optimizer.step()
        moved[master] = float((model[1].weight.detach() - before).abs().max())
    assert moved[False] == 0
    assert moved[True] == pytest.approx(6e-3, rel=0.4)


@pytest.mark.parametrize("order", ["weights first", "state first"])
def test_a_resumed_optimizer_goes_on_with_the_same_bits(order):
    model = network(torch.bfloat16)
    optimizer = wrapped(model, "adamw", "flat", master=True)
    train(model, optimizer, range(3))
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    train(model, optimizer, range(3, 5))
    other = network(torch.bfloat16)
    resumed = wrapped(other, "adamw", "flat", master=True)
    steps = [lambda: other.load_state_dict(weights), lambda: resumed.load_state_dict(state)]
    for step in steps if order == "weights first" else steps[::-1]:
        step()
    assert all(master.dtype == torch.float32 for master in masters(other, resumed))
    train(other, resumed, range(3, 5))
    assert all(torch.equal(a, b) for a, b in zip(masters(model, optimizer), masters(other, resumed), strict=True))
    twin, copied = copy.deepcopy((model, optimizer))
    train(model, optimizer, [7])
    train(twin, copied, [7])
    assert all(torch.equal(a, b) for a, b in zip(masters(model, optimizer), masters(twin, copied), strict=True))


def test_weights_that_somebody_else_wrote_get_new_masters():
    model = network(torch.bfloat16)
    optimizer = wrapped(model, "sgd", "flat", master=True)
    train(model, optimizer, range(2))
    with torch.no_grad():
        model[3].weight.fill_(0.25)
    for parameter in model.parameters():
        parameter.grad = None
    optimizer.strength = 0.0
    optimizer.step()
    assert torch.equal(optimizer.state[model[3].weight]["master"], torch.full_like(model[3].weight, 0.25).float())
