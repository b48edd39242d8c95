"""The test of the tests: each way to get removal wrong must show as a difference, on the networks the laws use."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from zeroed_networks import disturb, zero_filters

import nets.flow.constants as constants
import nets.flow.needs as flow
import nets.removal as removal
import nets.shrink.writers as writers
from nets.resnet import resnet20


def without_constants(graph):
    right = flow.follow_channels(graph)
    return replace(right, channels={k: replace(v, value=0 * v.value) for k, v in right.channels.items()})


def without_a_live_channel(graph):
    right = flow.follow_channels(graph)
    space = next(graph.space[w.end] for w in graph.writers if graph.space[w.end] not in graph.pinned)
    first = torch.nonzero(right.needed[space])[0]
    right.needed[space][first] = right.present[space][first] = False
    return right


def mean_forgotten(module, source):
    beta = module.bias.detach().double()
    return source.live & (module.weight != 0), beta + 0 * source.value


def relu_forgotten(node, modules, value):
    return value


def added_once(op, graph, inputs):
    return RIGHT_FORWARD(op, graph, inputs[:1] if op.kind is constants.Kind.ADD else inputs)


def bias_not_moved(norm, kept, shift):
    return RIGHT_NORM(norm, kept, None)


def border_forgotten(layer):
    return False


RIGHT_FORWARD, RIGHT_NORM = constants._forward, writers.narrow_norm
MUTANTS = {
    "the constant is forgotten": [(removal, "follow_channels", without_constants)],
    "a live channel is dropped": [(removal, "follow_channels", without_a_live_channel)],
    "the running mean is forgotten": [(constants, "_normalise", mean_forgotten)],
    "ReLU does not act on constants": [(constants, "map_value", relu_forgotten)],
    "an addition counts one side": [(constants, "_forward", added_once)],
    "the lost input is not taken from the running mean": [(writers, "narrow_norm", bias_not_moved)],
    "a constant is folded through padding": [
        (constants, "pads_with_zeros", border_forgotten),
        (flow, "pads_with_zeros", border_forgotten),
        (writers, "pads_with_zeros", border_forgotten),
    ],
}


class Residual(nn.Module):
    """The branch is constant on three channels and does not read them, so only the sum shows that they are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch, self.head = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 3, 1)
        self.branch.weight.data[:3] = 0
        self.branch.weight.data[:, :3] = 0

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.branch(x) + x)


def largest_difference(shortcut: str) -> float:
    torch.manual_seed(0)
    inputs = torch.randn(2, 2, 8, 8, dtype=torch.float64)
    models = (random_resnet(shortcut), disturb(Residual(), torch.Generator().manual_seed(0)).double())
    return max(removal.remove_channels(model, inputs)[1] for model in models)


def random_resnet(shortcut: str) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    model = disturb(resnet20(width=4, in_channels=2, shortcut=shortcut), generator)
    model = zero_filters(model, 0.4, generator).double()
    for block in (*model.layer1, *model.layer2):  # constants that enter an unpadded convolution before a norm
        block.conv2.padding, block.conv2.padding_mode = (1, 1), "circular"
        block.conv2._reversed_padding_repeated_twice = [1, 1, 1, 1]
    return model


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_the_right_one_passes(shortcut):
    assert largest_difference(shortcut) <= 1e-10


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_one_is_seen(name, monkeypatch):
    for module, attribute, wrong in MUTANTS[name]:
        monkeypatch.setattr(module, attribute, wrong)
    assert largest_difference("A") > 1e-6
