"""SGD or AdamW with the prox in one pass: weights and state of the optimizer's own step followed by the loop's prox."""

import copy
import pickle

import pytest
import torch
from small_net import Net
from torch import nn
from torch.nn import functional as F

from nets.groups import channel_groups
from nets.optimizer import Proximal
from perspective import InputError, declare, derive

REGULARISER = derive(declare("alpha*s**2", price="1-alpha", bound="M")).bind(alpha=0.3, M=0.4)
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randn(8, 2, 6, 6, dtype=torch.float64, generator=GENERATOR)
LABELS = torch.arange(8) % 3
RULES = {
    "plain": (torch.optim.SGD, {"lr": 0.1}),
    "decay": (torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.05}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-2}),
    "nesterov": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-2, "nesterov": True}),
    "adamw": (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.5}),
}


def network(dtype=torch.float64):
    torch.manual_seed(1)
    return Net().to(dtype)


def wrapped(model, rule, implementation, strength=2.0, **changes):
    kind, options = RULES[rule]
    optimizer = kind(model.parameters(), **{**options, **changes})
    groups = channel_groups(model, IMAGES.to(model.linear.weight.dtype))
    return Proximal(optimizer, groups, REGULARISER, strength, implementation=implementation)


def train(model, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(IMAGES.to(model.linear.weight.dtype)), LABELS).backward()
        optimizer.step()


def distance(one, two):
    return max(float((one[name].double() - two[name].double()).abs().max()) for name in one)


def state_distance(one, two):
    """Over all state tensors of two optimizers of the same parameters; the keys must be the same."""
    first, second = one.state_dict()["state"], two.state_dict()["state"]
    assert first.keys() == second.keys()
    worst = 0.0
    for k in first:
        assert first[k].keys() == second[k].keys()
        worst = max(
            [worst, *(float((first[k][n] - second[k][n]).abs().max()) for n in first[k] if first[k][n] is not None)]
        )
    return worst


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("rule", sorted(RULES))
def test_weights_and_state_are_the_unfused(rule, dtype):
    one, two = network(dtype), network(dtype)
    fused, loop = wrapped(one, rule, "fused_step"), wrapped(two, rule, "loop")
    train(one, fused, 4)
    train(two, loop, 4)
    allowed = 1e-12 if dtype == torch.float64 else 3e-6
    assert distance(one.state_dict(), two.state_dict()) < allowed
    assert state_distance(fused, loop) < allowed


@pytest.mark.parametrize(
    ("rule", "truth", "steps"),
    [
        ("momentum", "loop", 200),
        ("adamw", "loop", 200),
        ("momentum", "flat", 1000),  # two minutes by the loop
        pytest.param("momentum", "loop", 1000, marks=pytest.mark.slow),
        pytest.param("adamw", "loop", 1000, marks=pytest.mark.slow),
    ],
)
def test_a_thousand_steps_stay_together(rule, truth, steps):
    """float64: 1e-9, the rounding that training itself blows up; the same groups are zero at the end."""
    one, two = network(), network()
    strength = {"momentum": 8.0, "adamw": 80.0}[rule]
    fused, other = wrapped(one, rule, "fused_step", strength), wrapped(two, rule, truth, strength)
    train(one, fused, steps)
    train(two, other, steps)
    assert distance(one.state_dict(), two.state_dict()) < 1e-9
    assert fused.groups.surviving() == other.groups.surviving()
    assert sum(fused.groups.surviving().values()) < 9


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("momentum", {"weight_decay": 0.0}),
        ("momentum", {"momentum": 0.0}),
        ("momentum", {"nesterov": True}),
        ("adamw", {"weight_decay": 0.0}),
        ("adamw", {"eps": 1e-3}),
        ("adamw", {"betas": (0.9, 0.9)}),
        ("momentum", {"strength": 1.0}),
    ],
)
def test_the_comparison_rejects(rule, changes):
    one, two = network(), network()
    train(one, wrapped(one, rule, "fused_step", **changes), 4)
    train(two, wrapped(two, rule, "loop"), 4)
    assert distance(one.state_dict(), two.state_dict()) > 1e-6


@pytest.mark.parametrize("rule", ["momentum", "adamw"])
@pytest.mark.parametrize("after", ["flat", "fused", "fused_step"])
def test_state_goes_over_to_any_implementation(rule, after):
    model = network()
    optimizer = wrapped(model, rule, "fused_step")
    train(model, optimizer, 3)
    twin = copy.deepcopy(model)
    other = wrapped(twin, rule, after, strength=0.0)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, 3)
    train(twin, other, 3)
    assert distance(model.state_dict(), twin.state_dict()) < (1e-12 if after != "fused_step" else 1e-300)


@pytest.mark.parametrize("implementation", ["fused", "fused_step"])
def test_a_compiled_model_trains_as_the_plain_one(implementation):
    """torch.compile reads the parameters anew in every step: they stay the tensors they were."""
    one, two = network(), network()
    compiled = torch.compile(two, backend="eager")  # dynamo's guards, without a compiler
    for model, run in ((one, one), (two, compiled)):
        optimizer = wrapped(model, "momentum", implementation, 8.0)
        for _ in range(5):
            optimizer.zero_grad()
            F.cross_entropy(run(IMAGES), LABELS).backward()
            optimizer.step()
    assert distance(one.state_dict(), two.state_dict()) < 1e-12
    assert sum(optimizer.groups.surviving().values()) <= 9


def test_a_copy_trains_the_copied_model():
    model = network()
    optimizer = wrapped(model, "momentum", "fused_step")
    train(model, optimizer, 2)
    before = copy.deepcopy(model.state_dict())
    for twin, other in (copy.deepcopy((model, optimizer)), pickle.loads(pickle.dumps((model, optimizer)))):
        train(twin, other, 2)
        assert distance(model.state_dict(), before) == 0
        assert distance(twin.state_dict(), before) > 0


def test_a_frozen_tensor_is_left_to_the_prox_as_torch_leaves_it():
    results = []
    for implementation in ("fused_step", "loop"):
        model = network()
        optimizer = wrapped(model, "momentum", implementation)
        model.conv2.weight.requires_grad_(False)
        model.linear.bias.requires_grad_(False)
        train(model, optimizer, 3)
        results.append(model.state_dict())
    assert distance(*results) < 1e-12


def test_layouts_rates_prices_and_added_tensors():
    """channels_last weights, a learning rate of its own, prices, a tensor that comes later, a closure that returns its loss."""
    results = []
    for implementation in ("fused_step", "loop"):
        model = network()
        optimizer = wrapped(model, "momentum", implementation)
        train(model, optimizer, 1)
        model.to(memory_format=torch.channels_last)
        infinite = torch.tensor([1.0, 0.0, torch.inf, 1.0, 2.0], dtype=torch.float64)
        optimizer.prices = {"conv1": infinite}
        train(model, optimizer, 2)
        extra = nn.Parameter(torch.ones(3, dtype=torch.float64))
        optimizer.add_param_group({"params": [extra], "lr": 0.5})

        def closure(model=model, optimizer=optimizer, extra=extra):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(IMAGES) * extra, LABELS)
            loss.backward()
            return loss

        assert optimizer.step(closure).item() > 0
        assert (model.conv1.weight[2] == 0).all()
        results.append({**model.state_dict(), "extra": extra.detach()})
    assert distance(*results) < 1e-12


def test_schedulers_move_the_rate():
    model = network()
    optimizer = wrapped(model, "momentum", "fused_step")
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    inner = torch.optim.lr_scheduler.LambdaLR(optimizer.inner, lambda epoch: 1.0)
    train(model, optimizer, 1)
    scheduler.step()
    inner.step()
    before = copy.deepcopy(model.state_dict())
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    train(model, optimizer, 1)
    assert distance({k: v for k, v in model.state_dict().items() if "running" not in k and "num" not in k}, before) == 0


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda p: torch.optim.RMSprop(p), "not RMSprop"),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1), "dampening=0.1"),
        (lambda p: torch.optim.AdamW(p, amsgrad=True), "amsgrad=True"),
    ],
)
def test_what_it_does_not_know_is_refused(build, words):
    model = network()
    with pytest.raises(InputError, match=words):
        Proximal(build(model.parameters()), channel_groups(model, IMAGES), REGULARISER, 1.0, "fused_step")


def test_hooks_and_sparse_gradients_are_refused():
    model = network()
    optimizer = wrapped(model, "momentum", "fused_step")
    model.linear.bias.grad = torch.zeros(3, dtype=torch.float64).to_sparse()
    with pytest.raises(InputError, match="dense gradients"):
        optimizer.step()
    optimizer.inner.register_step_pre_hook(lambda *_: None)
    with pytest.raises(InputError, match="hooks"):
        optimizer.step()
