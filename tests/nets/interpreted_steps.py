"""The Triton kernel's training steps on CPU tensors, by Triton's interpreter: run by test_fused_triton_is_the_loop.py in a
process of its own.

python tests/nets/interpreted_steps.py NAME      (with TRITON_INTERPRET=1; asserts, and says nothing)
"""

import os
import sys

assert os.environ.get("TRITON_INTERPRET") == "1", "set it before triton is imported"

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402

import nets.fused.sweep  # noqa: E402
import nets.optimizer  # noqa: E402
from nets.groups import channel_groups  # noqa: E402
from nets.optimizer import Proximal  # noqa: E402
from perspective import InputError, declare, derive  # noqa: E402

REGULARISER = derive(declare("alpha*s**2", price="1-alpha", bound="M")).bind(alpha=0.3, M=0.4)
RULES = {
    "plain": (torch.optim.SGD, {"lr": 0.1}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-2}),
    "nesterov": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-2, "nesterov": True}),
    "adamw": (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.5}),
}


def network(dtype):
    torch.manual_seed(1)
    layers = (nn.Conv2d(2, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(16, 3)).to(dtype)


def train(rule, implementation, dtype=torch.float64, steps=2, on_gpu=False, master=False, **changes):
    """Weights and state after a few steps with gradients that are the same for all."""
    model = network(dtype)
    kind, options = RULES[rule]
    groups = channel_groups(model, torch.zeros(1, 2, 6, 6, dtype=dtype))
    inner = kind(model.parameters(), **{**options, **changes})
    optimizer = Proximal(inner, groups, REGULARISER, 2.0, implementation, master=master)
    nets.optimizer.is_on_gpu = lambda table: on_gpu
    nets.fused.sweep.is_on_gpu = lambda table: on_gpu
    generator = torch.Generator().manual_seed(3)
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator).to(dtype) * 0.1
        model[5].bias.grad = None
        optimizer.step()
    return model, optimizer


def states(optimizer):
    return {(k, n): x for k, s in optimizer.state_dict()["state"].items() for n, x in s.items() if x is not None}


def apart(one, two):
    (first, a), (second, b) = one, two
    assert states(a).keys() == states(b).keys()
    pairs = [*zip(first.parameters(), second.parameters(), strict=True)]
    pairs += [(states(a)[key], states(b)[key]) for key in states(a)]
    assert all(x.dtype == y.dtype for x, y in pairs)
    zeros = all(torch.equal(p == 0, q == 0) for p, q in zip(first.parameters(), second.parameters(), strict=True))
    return max(float((x.double() - y.double()).abs().max()) for x, y in pairs), zeros


def steps_and_state_are_the_unfused():
    for rule in RULES:
        dtype, allowed = (torch.float32, 2e-6) if rule in ("plain", "adamw") else (torch.float64, 1e-12)
        difference, zeros = apart(train(rule, "fused_step", dtype, on_gpu=True), train(rule, "loop", dtype))
        assert difference < allowed, (rule, dtype, difference)
        assert zeros
    assert apart(train("adamw", "fused_step", on_gpu=True), train("adamw", "loop"))[0] < 1e-12
    difference, _ = apart(train("momentum", "fused", on_gpu=True), train("momentum", "loop"))
    assert difference < 1e-12
    rate = torch.tensor(0.1, dtype=torch.float64)
    difference, _ = apart(train("momentum", "fused_step", on_gpu=True, lr=rate), train("momentum", "loop"))
    assert difference < 1e-12
    for rule, changes in (
        ("momentum", {"weight_decay": 0.0}),
        ("momentum", {"nesterov": True}),
        ("adamw", {"betas": (0.9, 0.99)}),
        ("adamw", {"eps": 1e-3}),
    ):
        difference, _ = apart(train(rule, "fused_step", on_gpu=True, **changes), train(rule, "loop"))
        assert difference > 1e-6, changes


def masters_in_the_kernel():
    """bfloat16: masters as the loop moves them; the weights are their roundings, zero where they are."""
    for rule in ("momentum", "adamw"):
        one = train(rule, "fused_step", torch.bfloat16, on_gpu=True, master=True)
        two = train(rule, "loop", torch.bfloat16, master=True)
        difference, zeros = apart(one, two)
        assert difference < 1e-2  # a rounding of bfloat16
        assert zeros
        for model, optimizer in (one, two):
            for parameter in model.parameters():
                master = optimizer.state[parameter]["master"]
                assert master.dtype == torch.float32
                assert torch.equal(master.bfloat16(), parameter)
        masters = [[opt.state[p]["master"] for p in model.parameters()] for model, opt in (one, two)]
        assert max(float((a - b).abs().max()) for a, b in zip(*masters, strict=True)) < 2e-6
    with pytest.raises(InputError, match="master=True"):
        train("momentum", "fused_step", torch.bfloat16, on_gpu=True)


if __name__ == "__main__":
    np.seterr(all="ignore")
    torch.set_num_threads(1)
    with torch.no_grad():
        for name in sys.argv[1:]:
            globals()[name]()
