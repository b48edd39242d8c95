"""Law: every zeroed filter is physically gone, the figures by hand come out, and the result is an ordinary network."""

import copy

import pytest
import torch
from torch import nn
from zeroed_networks import Inverted, Opaque, Plain, PreActivation, disturb, zero_filters

from nets.measure import measure
from nets.removal import remove_channels
from nets.resnet import resnet20
from nets.shrink.scatter import Constant, Scatter


def zeroed_resnet(shortcut: str = "A", pairs: bool = False) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    return zero_filters(disturb(resnet20(width=8, shortcut=shortcut), generator), 0.4, generator, pairs).eval()


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_each_convolution_keeps_exactly_its_nonzero_filters(shortcut):
    model = zeroed_resnet(shortcut)
    alive = {
        name: int((m.weight.flatten(1) != 0).any(1).sum())
        for name, m in model.named_modules()
        if isinstance(m, nn.Conv2d)
    }
    smaller, _ = remove_channels(model, torch.randn(1, 3, 16, 16))
    assert {change.name: change.after for change in smaller.removal.layers} == alive
    assert {name: smaller.get_submodule(name).out_channels for name in alive} == alive


def test_macs_and_parameters_drop_by_the_number_computed_by_hand():
    model = resnet20(width=8)
    inputs = torch.randn(3, 3, 16, 16)
    before = measure(model, inputs)
    block = model.layer2[1]  # 16 channels on 8 x 8 positions
    for k in (0, 3, 7):
        block.conv1.weight.data[k], block.bn1.weight.data[k], block.bn1.bias.data[k] = 0, 0, 0
    smaller, _ = remove_channels(model, inputs)
    after = measure(smaller, inputs)
    assert smaller.layer2[1].conv1.weight.shape == (13, 16, 3, 3)
    assert smaller.layer2[1].conv2.weight.shape == (16, 13, 3, 3)
    assert before.macs - after.macs == 2 * (3 * 16 * 9 * 64)  # three filters, and as much in what reads them
    assert before.params - after.params == 2 * (3 * 16 * 9) + 3 * 2
    assert before.channels - after.channels == 3


def test_a_stream_channel_dead_in_all_its_writers_is_gone_everywhere():
    model = disturb(resnet20(width=8), torch.Generator().manual_seed(0))
    writers = [(model.conv1, model.bn1)] + [(block.conv2, block.bn2) for block in model.layer1]
    for conv, bn in writers:
        conv.weight.data[2], bn.weight.data[2], bn.bias.data[2] = 0, 0, 0
    smaller, _ = remove_channels(model, torch.randn(1, 3, 16, 16))
    assert all(block.conv1.in_channels == 7 for block in smaller.layer1)
    assert all(block.conv2.out_channels == 7 for block in smaller.layer1)
    assert (smaller.conv1.out_channels, smaller.layer2[0].conv1.in_channels) == (7, 7)
    # the option-A shortcut has to tell apart seven channels from eight; nothing else needs a helper
    assert [name for name, m in smaller.named_modules() if isinstance(m, Scatter)] == ["layer2.0.shortcut"]


def test_one_channel_stands_for_all_constants_under_zero_padding():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Conv2d(6, 5, 3, padding=1)).double()
    disturb(model, torch.Generator().manual_seed(0))
    model[0].weight.data[:4] = 0
    inputs = torch.randn(2, 2, 7, 7, dtype=torch.float64)
    smaller, difference = remove_channels(model, inputs)
    assert difference <= 1e-12
    assert (smaller[0].out_channels, smaller[1][0].num_features, smaller[2].in_channels) == (2, 2, 3)
    model[2] = nn.Conv2d(6, 5, 3).double()  # without padding it is a bias, and no channel has to stand for it
    smaller, difference = remove_channels(model, inputs)
    assert difference <= 1e-12
    assert (smaller[0].out_channels, smaller[1].num_features, smaller[2].in_channels) == (2, 2, 2)


@pytest.mark.parametrize("make", [Plain, Inverted, PreActivation])
def test_odd_networks_shrink_too(make):
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(1)
    model = zero_filters(disturb(make(), generator), 0.5, generator)
    smaller, _ = remove_channels(model, torch.randn(2, 2, 10, 10))
    assert smaller.removal.stuck == 0
    assert measure(smaller, torch.randn(2, 2, 10, 10)).macs < measure(model, torch.randn(2, 2, 10, 10)).macs


def test_zero_filters_that_cannot_go_are_counted():
    model = disturb(Opaque(), torch.Generator().manual_seed(1))
    for layer in (model.grouped, model.shared, model.gate):
        layer.weight.data[:3] = 0
    smaller, _ = remove_channels(model, torch.randn(2, 2, 10, 10))
    assert smaller.removal.stuck == 6  # three fill a group of the grouped convolution, three are in the shared one
    assert {c.name: (c.before, c.after) for c in smaller.removal.layers}["gate"] == (8, 5)


def test_the_smaller_network_is_an_ordinary_one():
    model = zeroed_resnet("B")
    model.layer3[1].conv2.weight.data.zero_()
    inputs = torch.randn(4, 3, 16, 16)
    smaller, _ = remove_channels(model.train(), inputs)
    assert type(smaller) is type(model)
    assert smaller.architecture == model.architecture
    assert any(isinstance(m, Constant) for m in smaller.modules())
    twin = copy.deepcopy(smaller)
    loss = twin(inputs).square().sum()
    loss.backward()
    assert all(p.grad is not None for n, p in twin.named_parameters() if "layer3.1.conv1" not in n)
    with torch.no_grad():
        smaller.eval()
        exported = torch.export.export(smaller, (inputs,)).module()
        assert torch.allclose(exported(inputs), smaller(inputs), atol=1e-5)


def test_channels_last_stays_channels_last():
    model = zeroed_resnet().to(memory_format=torch.channels_last)
    smaller, difference = remove_channels(model, torch.randn(2, 3, 16, 16))
    assert difference <= 1e-4
    weight = smaller.layer2[1].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
