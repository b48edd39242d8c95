"""Law: on the blocks of every network of the list removal changes no answer, and a second time it changes nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_families import (
    FAMILIES,
    basic,
    count_macs,
    efficient,
    farthest,
    images,
    make,
    mobile_v2,
    mobile_v3,
    next_generation,
    regular,
    resnext,
    transformer,
    zero,
)
from torch import nn

from nets.networks import build
from nets.removal import remove_channels
from nets.saving import load, save_model
from nets.shrink.scatter import Constant, Scattered

LIMITS = {torch.float64: 1e-10, torch.float32: 1e-4}  # of max(1, largest logit)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=2, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    share=st.sampled_from([0.2, 0.5, 0.8, 1.0]),
    dtype=st.sampled_from([torch.float64, torch.float64, torch.float32]),
    anything=st.booleans(),
)
def test_random_zeros_change_no_answer_and_removal_twice_changes_nothing(family, seed, share, dtype, anything):
    model = zero(make(family, seed), seed, share, anything).to(dtype)
    smaller, difference = remove_channels(model, images(dtype))
    assert difference <= 10 * LIMITS[dtype]  # as reported, not divided by the logits
    assert farthest(model, smaller, dtype) <= LIMITS[dtype]
    assert count_macs(smaller) <= count_macs(model)
    twice, _ = remove_channels(smaller, images(dtype))
    assert repr(twice) == repr(smaller)
    assert all(torch.equal(v, smaller.state_dict()[k]) for k, v in twice.state_dict().items()) or anything
    sizes = [
        n for m in smaller.modules() if isinstance(m, nn.Conv2d) for n in (m.in_channels, m.out_channels, m.groups)
    ]
    assert min(sizes, default=1) >= 1


@pytest.mark.parametrize(("family", "seed"), [*((family, 15) for family in FAMILIES), (next_generation, 410801)])
def test_pruning_again_after_removal(family, seed):
    """The second time whole layers are zero that stand before the Scatter of the first."""
    model, _ = remove_channels(zero(make(family, seed), seed, 0.5).double(), images())
    zero(model, seed + 1, 0.4)
    smaller, difference = remove_channels(model, images())
    assert difference <= 1e-10
    assert farthest(model, smaller) <= 1e-10
    for module in (m for m in model.modules() if isinstance(m, Scattered)):
        for parameter in module[0].parameters():
            parameter.data.zero_()
    smaller, _ = remove_channels(model, images())
    assert farthest(model, smaller) <= 1e-10


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_left_comes_back_from_disk_with_the_same_bits(family, tmp_path):
    model = zero(make(family, 1), 1, 0.5).float()
    smaller, _ = remove_channels(model, images(torch.float32))
    save_model(smaller, tmp_path / "model")
    again = load(tmp_path / "model", model=family())
    assert repr(again) == repr(smaller.eval())
    with torch.no_grad():
        assert torch.equal(again(images(torch.float32)), smaller(images(torch.float32)))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_without_zeros_is_left_as_it_is(family):
    model = make(family, 2).double()
    smaller, difference = remove_channels(model, images())
    assert repr(smaller) == repr(model)
    assert difference == 0


def kill(model: nn.Module, *names: str) -> nn.Module:
    """Zero whole convolutions or linear layers, biases included."""
    for name in names:
        module = model.get_submodule(name)
        for parameter in module.parameters():
            parameter.data.zero_()
    return model


@pytest.mark.parametrize(
    ("family", "last", "branch"),
    [
        (basic, "blocks.2.conv2", "blocks.2.conv"),
        (resnext, "blocks.1.conv3", "blocks.1.conv"),
        (mobile_v2, "blocks.2.conv.2", "blocks.2.conv"),
        (mobile_v3, "blocks.0.block.3.0", "blocks.0.block"),
        (efficient, "blocks.2.block.3.0", "blocks.2.block"),
        (regular, "blocks.1.f.c.0", "blocks.1.f"),
        (next_generation, "features.3.1.block.5", "features.3.1.block"),
        (transformer, "encoder.layers.encoder_layer_1.mlp.3", "encoder.layers.encoder_layer_1.mlp"),
    ],
)
def test_a_branch_whose_last_layer_is_zero_is_gone(family, last, branch):
    model = kill(make(family, 3).double(), last)
    smaller, _ = remove_channels(model, images())
    assert farthest(model, smaller) <= 1e-10
    left = [
        name for name, m in smaller.named_modules()
        if name.startswith(branch) and isinstance(m, nn.Conv2d | nn.Linear)
    ]  # fmt: skip
    # ConvNeXt's depthwise convolution feeds a layer normalisation, which keeps all its channels
    assert left == (["features.3.1.block.0"] if family is next_generation else [])
    assert any(isinstance(m, Constant) for m in smaller.modules())


def test_a_named_network_comes_back_without_a_model_of_the_users(tmp_path):
    torch.manual_seed(0)
    inputs = torch.randn(2, 3, 32, 32)
    model = zero(build("mobilenet_v3_small", 3, 3).eval(), 14, 0.5)
    smaller, _ = remove_channels(model, inputs)
    save_model(smaller, tmp_path / "model")
    again = load(tmp_path / "model")
    assert repr(again) == repr(smaller)
    with torch.no_grad():
        assert torch.equal(again(inputs), smaller(inputs))
