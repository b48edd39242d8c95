"""Law: the network after removal answers as the network before it, whatever is zero and whatever constants are left."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from zeroed_networks import ODD, Plain, disturb, zero_anything, zero_filters

from nets.removal import remove_channels
from nets.resnet import resnet20
from perspective.errors import InputError

TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}  # of max(1, largest logit)


def farthest(model: nn.Module, smaller: nn.Module, inputs: Tensor) -> float:
    """Our own comparison, over max(1, largest logit), also on inputs that removal never saw, twice as large."""
    generator = torch.Generator().manual_seed(99)
    other = torch.randn((5, *inputs.shape[1:]), generator=generator).to(inputs) * 2
    with torch.no_grad():
        pairs = [(copy.deepcopy(model).eval()(x), copy.deepcopy(smaller).eval()(x)) for x in (inputs, other)]
    return max(float((one - two).abs().max()) / max(1.0, float(one.abs().max())) for one, two in pairs)


def random_resnet(seed: int, shortcut: str, share: float, pairs: bool, dtype: torch.dtype) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = disturb(resnet20(width=4, in_channels=2, num_classes=3, shortcut=shortcut), generator)
    return zero_filters(model, share, generator, pairs).to(dtype)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shortcut=st.sampled_from(["A", "B"]),
    share=st.floats(0.0, 1.0),
    pairs=st.booleans(),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    size=st.integers(8, 11),
)
def test_random_zeros_in_resnets(seed, shortcut, share, pairs, dtype, size):
    model = random_resnet(seed, shortcut, share, pairs, dtype)
    inputs = torch.randn(2, 2, size, size, dtype=dtype)
    smaller, difference = remove_channels(model, inputs)
    assert difference <= 10 * TOLERANCE[dtype]  # as reported, not divided by the logits
    assert farthest(model, smaller, inputs) <= TOLERANCE[dtype]
    assert smaller.removal.stuck == 0


@settings(max_examples=60, deadline=None)
@given(make=st.sampled_from([*ODD, "A", "B"]), seed=st.integers(0, 10**6), share=st.floats(0.0, 1.0))
def test_anything_zero_in_odd_networks_and_removal_twice_changes_nothing(make, seed, share):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    if isinstance(make, str):
        model = random_resnet(seed, make, share, False, torch.float64)
    else:
        model = zero_filters(disturb(make(), generator), share, generator).double()
    model = zero_anything(model, generator)
    inputs = torch.randn(3, 2, 10, 10, dtype=torch.float64)
    once, difference = remove_channels(model, inputs)
    assert difference <= 1e-10
    assert farthest(model, once, inputs) <= 1e-10
    twice, difference = remove_channels(once, inputs)
    assert difference <= 1e-12
    assert repr(twice) == repr(once)


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("dead", [("layer2.1",), ("layer2.0",), ("conv1",), ("layer3.2.conv2",), ("conv1", "layer1")])
def test_whole_branches_and_the_stem(shortcut, dead):
    model = random_resnet(3, shortcut, 0.2, False, torch.float64)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and name.startswith(dead) and "shortcut" not in name:
            module.weight.data.zero_()
    inputs = torch.randn(2, 2, 9, 9, dtype=torch.float64)
    smaller, _ = remove_channels(model, inputs)
    assert farthest(model, smaller, inputs) <= 1e-10
    left = {name for name, module in smaller.named_modules() if isinstance(module, nn.Conv2d)}
    assert not [name for name in left if name.startswith(dead) and "shortcut" not in name]
    assert all(min(m.in_channels, m.out_channels) >= 1 for m in smaller.modules() if isinstance(m, nn.Conv2d))


def test_channels_that_nobody_reads_are_dropped_although_they_are_not_zero():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.Flatten())
    disturb(model, torch.Generator().manual_seed(1))
    model[3].weight.data[:, [1, 4]] = 0
    inputs = torch.randn(2, 2, 8, 8)
    smaller, _ = remove_channels(model, inputs)
    assert (smaller[0].out_channels, smaller[1].num_features, smaller[3].in_channels) == (4, 4, 4)
    assert farthest(model, smaller, inputs) <= 1e-5


def test_pruning_again_after_removal():
    generator = torch.Generator().manual_seed(5)
    model = random_resnet(5, "B", 0.3, False, torch.float64)
    inputs = torch.randn(2, 2, 8, 8, dtype=torch.float64)
    for _ in range(3):
        smaller, _ = remove_channels(model, inputs)
        assert farthest(model, smaller, inputs) <= 1e-10
        model = zero_filters(smaller, 0.3, generator)


@pytest.mark.parametrize("training", [True, False])
def test_the_original_is_untouched_and_modes_and_flags_are_carried_over(training):
    model = random_resnet(2, "A", 0.4, False, torch.float32).train(training)
    model.layer1[0].bn1.eval()
    model.layer1[0].conv1.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    text, random_state = repr(model), torch.random.get_rng_state()
    modes = {name: module.training for name, module in model.named_modules()}
    smaller, _ = remove_channels(model, torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert repr(model) == text
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert smaller.training is training
    assert not smaller.layer1[0].bn1.training
    assert not smaller.layer1[0].conv1.weight.requires_grad
    assert smaller.layer1[0].conv2.weight.requires_grad


def test_removal_twice_changes_nothing():
    for seed, shortcut in ((0, "A"), (1, "B"), (2, "A")):
        model = random_resnet(seed, shortcut, 0.25 + 0.25 * seed, seed == 1, torch.float64)
        inputs = torch.randn(2, 2, 8, 8, dtype=torch.float64)
        once, _ = remove_channels(model, inputs)
        twice, difference = remove_channels(once, inputs)
        assert difference == 0
        assert repr(twice) == repr(once)
        assert all(torch.equal(v, once.state_dict()[k]) for k, v in twice.state_dict().items())


def test_what_cannot_be_followed_is_refused_with_its_name():
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    model = nn.Sequential(nn.Conv2d(1, 2, 3), Branching())
    with pytest.raises(InputError, match=r"through 1 .*control flow"):
        remove_channels(model, torch.randn(1, 1, 5, 5))
    with pytest.raises(InputError, match="does not run on the example inputs"):
        remove_channels(Plain(), torch.randn(1, 7, 5, 5))
    broken = Plain()
    broken.last.weight.data[0, 0] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        remove_channels(broken, torch.randn(1, 2, 10, 10))
