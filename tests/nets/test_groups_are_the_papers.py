"""A group is what dies with one output channel: filter, gamma, beta; the classifier is in no group."""

import pytest
import torch
from torch import nn

from nets.groups import channel_groups
from nets.resnet import resnet20
from perspective import InputError


def test_resnet20_has_one_layer_a_convolution():
    model = resnet20(width=4, shortcut="B")
    groups = channel_groups(model, torch.zeros(1, 3, 8, 8))
    assert [layer.name for layer in groups.layers] == [
        name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)
    ]
    assert groups["layer1.0.conv1"].bn == "layer1.0.bn1"
    assert groups["layer2.0.shortcut.0"].bn == "layer2.0.shortcut.1"
    assert (groups["layer2.0.conv1"].channels, groups["layer2.0.conv1"].n) == (8, 4 * 9 + 2)
    everything = sum(p.numel() for p in model.parameters())
    assert groups.total == everything - sum(p.numel() for p in model.linear.parameters())


def test_rows_hold_filter_gamma_beta_of_the_channel():
    model = resnet20(width=4)
    groups = channel_groups(model, torch.zeros(1, 3, 8, 8))
    layer = groups["layer1.1.conv2"]
    rows = groups.rows(layer)
    block = model.layer1[1]
    with torch.no_grad():
        block.bn2.weight[2], block.bn2.bias[2] = 7.0, 8.0
    assert torch.equal(rows[2, :-2], block.conv2.weight[2].flatten())
    assert rows[2, -2] == 1.0  # a copy: the change above is not seen
    assert groups.rows(layer)[2, -2:].tolist() == [7.0, 8.0]


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_write_undoes_rows(memory):
    model = resnet20(width=4).to(memory_format=memory)
    groups = channel_groups(model, torch.zeros(1, 3, 8, 8))
    layer = groups["layer2.0.conv1"]
    rows = torch.randn(layer.channels, layer.n)
    groups.write(layer, rows)
    assert torch.equal(groups.rows(layer), rows)
    assert torch.equal(model.layer2[0].conv1.weight[3].flatten(), rows[3, :-2])
    with pytest.raises(InputError, match="shape"):
        groups.write(layer, rows[:1])


def test_a_group_survives_while_any_number_of_it_does():
    model = resnet20(width=4)
    groups = channel_groups(model, torch.zeros(1, 3, 8, 8))
    with torch.no_grad():
        model.conv1.weight[1:3] = 0
        model.bn1.weight[1:3] = 0
        model.bn1.bias[1] = 0
        model.bn1.bias[2] = 1e-30
    assert groups.surviving()["conv1"] == 3


def test_finding_groups_leaves_the_network_as_it_was():
    model = resnet20(width=4).train()
    model.layer1.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    channel_groups(model, torch.randn(4, 3, 8, 8))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.training
    assert not model.layer1[0].training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_convolution_without_normalisation_has_its_bias():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.BatchNorm2d(2), nn.Conv2d(2, 3, 1, bias=False))
    groups = channel_groups(model, torch.zeros(1, 1, 5, 5))
    assert [(layer.name, layer.bn, layer.n) for layer in groups.layers] == [("0", None, 10), ("3", None, 2)]


def test_what_cannot_be_grouped_is_refused():
    image = torch.zeros(1, 2, 5, 5)
    shared = nn.Conv2d(2, 2, 1)
    with pytest.raises(InputError, match="called twice"):
        channel_groups(nn.Sequential(shared, nn.ReLU(), shared), image)
    tied = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1))
    tied[1].weight = tied[0].weight
    with pytest.raises(InputError, match="shares a parameter"):
        channel_groups(tied, image)
    with pytest.raises(InputError, match="no Conv2d"):
        channel_groups(nn.Flatten(), image)
    with pytest.raises(InputError, match="coupled"):
        channel_groups(nn.Sequential(nn.Conv2d(2, 2, 1)), image, coupled=True)
    with pytest.raises(InputError, match="the layers are 0"):
        channel_groups(nn.Sequential(nn.Conv2d(2, 2, 1)), image)["x"]
