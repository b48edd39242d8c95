"""The test of the tests: wrong ways to treat products, concatenations, groups, heads and layer scales must all be seen."""

import pytest
import torch
from small_families import Tokens, UNet, images, make, mobile_v3, next_generation, regular, resnext, transformer, zero

import nets.flow.constants as constants
import nets.flow.graph as graph
import nets.flow.needs as flow
import nets.removal as removal
import nets.shrink.grouped_convolutions as grouping
import nets.shrink.heads as heads
import nets.shrink.layers as shrinking
import nets.shrink.writers as writers
from nets.flow.op import Kind, Reading
from perspective.errors import InputError


def product_of_one_constant(first, second):
    return first.live & second.live, first.value * second.value


def product_counts_one_side(first, second):
    return first.live | second.live, first.value


def concatenated_backwards(op, network, inputs):
    return RIGHT_FORWARD(op, network, inputs[::-1] if op.kind is Kind.CAT else inputs)


def parts_not_tied(op, ops, space):
    return ()


def value_bias_forgotten(module, gone):
    return RIGHT_OFFSET(module, torch.zeros_like(gone))


def first_heads_kept(module, kept, width):
    return RIGHT_FEWER(module, torch.arange(len(kept)), width)


def first_scales_kept(owner, name, axis, kept):
    RIGHT_PARAMETER(owner, name, axis, torch.arange(len(kept)))


def even_everywhere(self, writer, op, layer):
    return torch.zeros(len(self.rows(writer)), dtype=torch.bool)


def filled_from_the_front(chosen, candidates, count):
    return RIGHT_FILL(chosen, candidates, count).sort(descending=True).values


def normalised_channel_by_channel(node, modules, inputs, shape, exclusive):
    module = modules.get(str(node.target))
    if isinstance(module, torch.nn.LayerNorm):
        return Reading(Kind.MAP, len(shape) - 1)
    return RIGHT_CLASSIFY(node, modules, inputs, shape, exclusive)


RIGHT_FORWARD, RIGHT_OFFSET, RIGHT_FEWER = constants._forward, heads._offset, heads._fewer
RIGHT_PARAMETER, RIGHT_FILL, RIGHT_CLASSIFY = shrinking.narrow_parameter, grouping._fill, graph.classify
MUTANTS = {
    "a product with one constant is constant": (constants, "_multiply", product_of_one_constant),
    "a product counts one side": (constants, "_multiply", product_counts_one_side),
    "a concatenation is read backwards": (constants, "_forward", concatenated_backwards),
    "a concatenation and its parts shrink apart": (graph, "_ties", parts_not_tied),
    "a dead head's value bias is forgotten": (heads, "_offset", value_bias_forgotten),
    "the first heads are kept": (heads, "_fewer", first_heads_kept),
    "the first entries of a layer scale are kept": (shrinking, "narrow_parameter", first_scales_kept),
    "constants under a group's padding are forgotten": (flow.ChannelFlow, "uneven", even_everywhere),
    "the channels of a group are turned round": (grouping, "_fill", filled_from_the_front),
    "layer normalisation acts on each channel": (graph, "classify", normalised_channel_by_channel),
}
NETWORKS = (UNet, Tokens, mobile_v3, next_generation, regular, resnext, transformer)


def largest_difference() -> float:
    """Over some networks half of whose groups are zero; infinite where the smaller one does not even run."""
    largest = 0.0
    for family in NETWORKS:
        for seed in (1, 2):
            model = zero(make(family, seed), seed, 0.5).double()
            if family is UNet:  # channels that are zero in both writers of a stream, so that the stream itself shrinks
                model.first[0].weight.data[:2] = 0
                model.first[1].bias.data[:2] = -9
                model.joined.weight.data[:2], model.joined.bias.data[:2] = 0, -9
            try:
                largest = max(largest, removal.remove_channels(model, images())[1])
            except (RuntimeError, InputError, ValueError, IndexError, KeyError):
                return float("inf")
    return largest


def test_the_right_one_passes():
    assert largest_difference() <= 1e-10


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_one_is_seen(name, monkeypatch):
    monkeypatch.setattr(*MUTANTS[name])
    assert largest_difference() > 1e-6


def test_the_writers_use_the_parts_that_are_changed_here():
    assert writers.plan_groups is grouping.plan_groups
    assert flow.find_constants is constants.find_constants
