"""Coupled groups hold what dies together, and nothing twice: zeroed groups can be removed exactly, and only they."""

import copy
import sys

import numpy as np
import pytest
import torch
from coupled_networks import NETWORKS, build
from torch import nn
from zeroed_networks import disturb

from nets.groups import ChannelGroups, Layer, channel_groups
from nets.optimizer import Proximal
from nets.prox import prox_rows, prox_step
from nets.removal import remove_channels
from nets.shrink.scatter import Scattered
from nets.structures.coupling_check import find_wrong_sets
from nets.structures.coupling_ties import TiedSet, tie_channels
from nets.structures.coupling_trace import trace_dependencies
from nets.structures.slices import Span
from perspective import InputError, declare, derive

REGULARISER = derive(declare("alpha*s**2", price="1-alpha", bound="M")).bind(alpha=0.3, M=1.2)
CONVOLUTIONAL = sorted(set(NETWORKS) - {"vit"})


def table(groups):
    return {layer.name: (layer.channels, layer.n, layer.members) for layer in groups.layers}


def test_resnet20_with_projections_has_one_set_a_stage():
    """Width 4: stages of 4, 8, 16 channels; a stream is written by the stem or the projection and by each block's conv2."""
    model, images = build("resnet20 B")
    groups = table(channel_groups(model, images, coupled=True))
    assert len(groups) == 3 + 9
    blocks = ("layer1.0.conv2", "layer1.1.conv2", "layer1.2.conv2")
    assert groups["conv1"] == (4, (27 + 2) + 3 * (36 + 2), ("conv1", *blocks))
    assert groups["layer2.0.conv2"] == (
        8,
        3 * (72 + 2) + (4 + 2),
        ("layer2.0.conv2", "layer2.0.shortcut.0", "layer2.1.conv2", "layer2.2.conv2"),
    )
    assert groups["layer3.1.conv1"] == (16, 144 + 2, ("layer3.1.conv1",))


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_the_layout_in_memory_changes_no_group(name):
    """Training in bfloat16 keeps networks channels_last."""
    model, images = build(name)
    usual = table(channel_groups(model, images, coupled=True))
    last = model.to(memory_format=torch.channels_last)
    for pictures in (images, images.contiguous(memory_format=torch.channels_last)):
        assert table(channel_groups(last, pictures, coupled=True)) == usual


def test_resnet20_with_padding_has_one_set_for_each_kind_of_channel():
    """The 4 channels of stage 1 are the middle 4 of stage 2's 8, and these are the middle 8 of stage 3's 16."""
    model, images = build("resnet20 A")
    found = channel_groups(model, images, coupled=True)
    groups = table(found)
    one, two, three = (27 + 2) + 3 * 38, 3 * (72 + 2), 3 * (144 + 2)
    assert groups["conv1"][:2] == (4, one + two + three)
    assert groups["layer2.0.conv2"][:2] == (4, two + three)
    assert groups["layer3.0.conv2"][:2] == (8, three)
    assert sum(channels for channels, _, _ in groups.values()) == 16 + 3 * (4 + 8 + 16)
    spans = {id(span.parameter): span for span in found["conv1"].spans}
    assert spans[id(model.layer2[1].conv2.weight)].index.flatten().tolist() == [2, 3, 4, 5]
    assert spans[id(model.layer3[2].bn2.bias)].index.flatten().tolist() == [6, 7, 8, 9]


def test_a_depthwise_channel_and_its_gate_belong_to_the_expansion():
    groups = table(channel_groups(*build("mobile"), coupled=True))
    stem = ("stem.0", "body.block.3.0")
    expansion = ("body.block.0.0", "body.block.1.0", "body.block.2.fc2")
    assert groups == {
        "stem.0": (8, (18 + 2) + (16 + 2), stem),
        "body.block.0.0": (16, (8 + 2) + (9 + 2) + (8 + 1), expansion),
        "body.block.2.fc1": (8, 16 + 1, ("body.block.2.fc1",)),
    }


def test_a_dense_channel_has_its_place_in_every_later_norm():
    model, images = build("dense")
    groups = channel_groups(model, images, coupled=True)
    first, second = "block.denselayer1", "block.denselayer2"
    assert {name: row[:2] for name, row in table(groups).items()} == {
        "stem": (4, 18 + 3 * 2),
        f"{first}.conv1": (6, 4 + 2),
        f"{first}.conv2": (3, 54 + 2 * 2),
        f"{second}.conv1": (6, 7 + 2),
        f"{second}.conv2": (3, 54 + 2),
    }
    spans = {id(span.parameter): span for span in groups[f"{first}.conv2"].spans}
    assert spans[id(model.norm.bias)].index.flatten().tolist() == [4, 5, 6]


def test_a_group_of_a_grouped_convolution_is_one_group():
    """Three groups of four: inputs and outputs of one die together, so that the others keep their width."""
    groups = table(channel_groups(*build("grouped"), coupled=True))
    assert groups["body.a.0"] == (3, 4 * ((12 + 2) + (36 + 2) + (3 + 1)), ("body.a.0", "body.b.0", "body.se.fc2"))
    assert groups["stem.0"] == (12, (18 + 2) + (12 + 2), ("stem.0", "body.c.0"))


def test_a_transformer_has_heads_and_hidden_units_only():
    model, images = build("vit")
    groups = channel_groups(model, images, coupled=True)
    block = "encoder.layers.encoder_layer_1"
    assert len(groups.layers) == 4
    assert table(groups)[f"{block}.self_attention"][:2] == (2, 3 * 4 * 8 + 3 * 4)
    assert table(groups)[f"{block}.mlp.0"][:2] == (12, 8 + 1)
    assert {name for name, _ in groups.skipped} >= {"conv_proj", f"{block}.mlp.3", "heads.head"}


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_coupling_neither_loses_nor_invents_numbers(name):
    """All of the paper's groups are there; besides them only norms that read a concatenation."""
    model, images = build(name)
    norms = {"dense": ["block.denselayer1.norm1", "block.denselayer2.norm1", "norm"], "skips": ["joined"]}.get(name, [])
    paired = {"dense": ["block.denselayer1.norm1"]}.get(name, [])
    more = sum(2 * model.get_submodule(norm).num_features for norm in norms)
    more -= sum(
        2 * model.get_submodule(norm).num_features
        for norm in paired
        if norm == channel_groups(model, images)["stem"].bn
    )
    assert channel_groups(model, images, coupled=True).total == channel_groups(model, images).total + more


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("coupled", [False, True])
def test_no_number_lies_in_two_groups(name, coupled):
    model, images = build(name)
    groups = channel_groups(model, images, coupled=coupled)
    for parameter in model.parameters():
        parameter.data.zero_()
    for layer in groups.layers:
        groups.write(layer, groups.rows(layer) + 1)
    numbers = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert set(numbers.unique().tolist()) == {0.0, 1.0}
    assert int(numbers.sum()) == groups.total


def zero_half(groups, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for layer in groups.layers:
        rows = groups.rows(layer)
        rows[torch.randperm(layer.channels, generator=generator)[: layer.channels // 2]] = 0
        groups.write(layer, rows)


def removes_exactly(model, images, groups):
    """Does removal keep the logits and leave just the groups that are alive, with every writer and reader that narrow?"""
    smaller, difference = remove_channels(model, images)
    alive = groups.surviving()
    left = {layer.name: layer.channels for layer in channel_groups(smaller, images, coupled=True).layers}
    trace = trace_dependencies(model, (images,))
    widths: dict[tuple[str, str], int] = {}
    for tied in tie_channels(trace, frozenset(), {})[0]:
        name = next(layer.name for layer in groups.layers if layer.name == tied.writers[0].name)
        for place, index in tied.sides:
            before = widths.get((place.name, place.side), place.width)
            widths[place.name, place.side] = before - (len(index) - alive[name]) * index.shape[1]
    return difference <= 1e-10 and left == alive and all(fits(smaller, *key, width) for key, width in widths.items())


def fits(model, name, side, width):
    module = model.get_submodule(name)
    if not isinstance(module, nn.Conv2d | nn.Linear):
        return not isinstance(module, Scattered)
    return module.weight.shape[side == "in"] * (getattr(module, "groups", 1) if side == "in" else 1) == width


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_zeroed_groups_are_removed_and_only_they(name):
    model, images = build(name)
    disturb(model, torch.Generator().manual_seed(1))
    groups = channel_groups(model, images, coupled=True)
    before = model(images).detach()
    zero_half(groups)
    assert float((model(images).detach() - before).abs().max()) > 1e-3  # they were needed
    assert removes_exactly(model, images, groups)


def without(model, groups, *forgotten):
    """The same groups, but one writer of an addition, and its norm, are forgotten."""
    lost = {id(p) for name in forgotten for p in model.get_submodule(name).parameters()}
    kept = [tuple(span for span in layer.spans if id(span.parameter) not in lost) for layer in groups.layers]
    pairs = zip(groups.layers, kept, strict=True)
    return ChannelGroups(tuple(Layer(x.name, x.bn, spans, x.channels, x.members) for x, spans in pairs))


@pytest.mark.parametrize(
    ("name", "conv", "norm"),
    [
        ("resnet20 B", "layer1.1.conv2", "layer1.1.bn2"),
        ("resnet20 A", "layer2.0.conv2", "layer2.0.bn2"),
        ("mobile", "body.block.3.0", "body.block.3.1"),
        ("grouped", "stem.0", "stem.1"),
    ],
)
def test_a_forgotten_writer_is_noticed(name, conv, norm):
    model, images = build(name)
    disturb(model, torch.Generator().manual_seed(1))
    wrong = without(model, channel_groups(model, images, coupled=True), conv, norm)
    zero_half(wrong)
    assert not removes_exactly(model, images, wrong)


CONCATENATIONS = {  # by hand: module -> whose channels its outputs are, in this order
    "dense": {
        "stem": ["stem"],
        "block.denselayer1.norm1": ["stem"],
        "block.denselayer1.norm2": ["block.denselayer1.conv1"],
        "block.denselayer1.conv2": ["block.denselayer1.conv2"],
        "block.denselayer2.norm1": ["stem", "block.denselayer1.conv2"],
        "block.denselayer2.norm2": ["block.denselayer2.conv1"],
        "block.denselayer2.conv2": ["block.denselayer2.conv2"],
        "norm": ["stem", "block.denselayer1.conv2", "block.denselayer2.conv2"],
    },
    "skips": {"norm": ["down"], "deep": ["deep"], "beside": ["beside"], "joined": ["beside", "deep"], "up": ["up"]},
}


@pytest.mark.parametrize("offset", [0, 1], ids=["right", "wrong"])
@pytest.mark.parametrize("name", sorted(CONCATENATIONS))
def test_zeroing_is_cutting_by_hand_and_a_wrong_offset_is_not(name, offset):
    """The zeroed network is the untouched one in which dead channels are multiplied by zero in every tensor."""
    model, images = build(name)
    disturb(model, torch.Generator().manual_seed(1))
    groups, cut = channel_groups(model, images, coupled=True), copy.deepcopy(model)
    norm = model.norm if name == "dense" else model.joined

    def shift(span):
        moved = span.index is not None and any(span.parameter is p for p in norm.parameters())
        return Span(span.parameter, span.dim, (span.index + offset) % norm.num_features) if moved else span

    layers = [Layer(x.name, x.bn, tuple(map(shift, x.spans)), x.channels, x.members) for x in groups.layers]
    used = ChannelGroups(tuple(layers))
    zero_half(used)
    conv = {layer.name: model.get_submodule(layer.name).weight.detach().flatten(1) for layer in groups.layers}
    for module, sources in CONCATENATIONS[name].items():
        mask = torch.cat([(conv[source] != 0).any(1) for source in sources]).double()[None, :, None, None]
        cut.get_submodule(module).register_forward_hook(lambda _, __, output, mask=mask: output * mask)
    difference = float((model(images) - cut(images)).detach().abs().max())
    assert (difference > 1e-3) if offset else (difference < 1e-12)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_renumbering_rejects_wrong_ties(name):
    """Each set with one side shifted by a channel, or left out, breaks the law that torch-pruning's own sets obey."""
    model, images = build(name)
    trace = trace_dependencies(model, (images,))
    sets, _ = tie_channels(trace, frozenset(), {})
    assert find_wrong_sets(trace.network, trace.inputs, sets) == []
    for tied in sets:
        moving = tuple(side for side in tied.sides if side[0].slices())
        place, index = moving[-1]
        for wrong in (TiedSet((*moving[:-1], (place, np.roll(index, 1, axis=0)))), TiedSet(moving[:-1])):
            assert find_wrong_sets(trace.network, trace.inputs, [wrong]) == [wrong]


@pytest.mark.parametrize("name", ["resnet20 A", "grouped", "vit"])
def test_the_network_is_left_as_it_was(name):
    model, images = build(name)
    model.train()
    next(model.modules()).eval()
    frozen = list(model.parameters())[1]
    frozen.requires_grad_(False)
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    channel_groups(model, images, coupled=True)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert modes == [module.training for module in model.modules()]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert not frozen.requires_grad
    assert not images.requires_grad


@pytest.mark.parametrize("name", ["resnet20 A", "dense", "grouped", "vit"])
def test_flat_is_the_loop_on_coupled_groups(name):
    results = []
    for implementation in ("loop", "flat"):
        model, images = build(name)
        groups = channel_groups(model, images, coupled=True)
        steps = {layer.name: 0.01 * (1 + i) for i, layer in enumerate(groups.layers)}
        prox_step(groups, steps, {layer.name: REGULARISER for layer in groups.layers}, implementation)
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert float((results[0] - results[1]).abs().max()) < 1e-12
    assert torch.equal(results[0] == 0, results[1] == 0)


@pytest.mark.parametrize("coupled", [False, True])
def test_training_makes_whole_groups_exactly_zero(coupled):
    """One step is SGD's step and then the float64 prox with lr strength n_g / N; more steps leave zeros to remove."""
    model, images = build("mobile")
    groups = channel_groups(model, images, coupled=coupled)
    optimizer = Proximal(torch.optim.SGD(model.parameters(), lr=0.1), groups, REGULARISER, 40.0)
    for step in range(9):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), torch.tensor([0, 1])).backward()
        if step == 0:
            twin = copy.deepcopy(model)
            for parameter, original in zip(twin.parameters(), model.parameters(), strict=True):
                parameter.data -= 0.1 * original.grad
            twins = channel_groups(twin, images, coupled=coupled)
            for layer in twins.layers:
                tau = 0.1 * 40.0 * layer.n / twins.total
                twins.write(layer, prox_rows(twins.rows(layer), tau, REGULARISER, "loop"))
        optimizer.step()
        if step == 0:
            pairs = zip(model.parameters(), twin.parameters(), strict=True)
            assert max(float((one - two).detach().abs().max()) for one, two in pairs) < 1e-12
    alive = groups.surviving()
    assert 0 < sum(alive.values()) < sum(layer.channels for layer in groups.layers)
    if coupled:
        assert removes_exactly(model, images, groups)


def test_groups_move_with_a_copy_of_their_network():
    model, images = build("dense")
    groups = channel_groups(model, images, coupled=True)
    twin, twins = copy.deepcopy((model, groups))
    zero_half(twins)
    assert all(bool(groups.alive(layer).all()) for layer in groups.layers)
    assert channel_groups(twin, images, coupled=True).surviving() == twins.surviving()


def test_without_torch_pruning_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    model, images = build("mobile")
    with pytest.raises(InputError, match="pip install torch-pruning"):
        channel_groups(model, images, coupled=True)
    assert len(channel_groups(model, images).layers) == 6
