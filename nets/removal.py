"""Physically remove the channels of a network that carry nothing, and measure that the network stayed the same.

Every layer is replaced, in its own place, by a smaller one of its kind; the network's class and forward stay, so the result
can be copied, saved, traced and exported like the original. Constants of removed channels (a zero filter still sends
batch normalisation's shift forward) are folded exactly into the bias or running mean of the layer that reads them.
Where a constant that is not zero enters a zero-padded convolution it is no bias (the border sees less of it): one channel that
holds such a constant is then kept, without a filter, and stands for all the others.
Convolutions in groups keep groups of equal size; attention loses whole heads; what layer normalisation reads keeps its channels.
"""

import copy
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from nets.flow.difference import largest_difference
from nets.flow.graph import build_graph
from nets.flow.needs import follow_channels
from nets.shrink.layers import shrink_layers

EXACT = 1e-9  # of the largest output (or of 1): what a right removal may change in float64


@final
@dataclass(frozen=True)
class LayerChange:
    """Output channels (of attention: heads) of one layer before and after; 0: nothing was left, a constant took its place."""

    name: str
    before: int
    after: int


@final
@dataclass(frozen=True)
class Removal:
    """What was done: convolutions by output channels, and linear layers and attention (by heads) in `others`.

    stuck   zero filters that are still there (in layers that were not understood, or because they fill a group)
    """

    layers: tuple[LayerChange, ...]
    stuck: int
    others: tuple[LayerChange, ...] = ()


def remove_channels(model: nn.Module, example_inputs: Tensor | tuple[Tensor, ...]) -> tuple[nn.Module, float]:
    """(smaller network, largest |difference| of its outputs from `model`'s, both in evaluation mode).

    `example_inputs` is any batch the network accepts (a tuple for several arguments); the difference is taken over it and
    over a seeded random batch of the same shape. `model` is not changed; the smaller network is in the same mode
    and carries a `removal: Removal`. InputError where the network cannot be traced; it names the module and why.
    """
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    masked, smaller = copy.deepcopy(model).eval(), copy.deepcopy(model).eval()
    before = {name: m.out_channels for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    after = shrink_layers(smaller, follow_channels(build_graph(smaller, inputs)))
    difference = largest_difference(masked, smaller.eval(), inputs)
    modes = {name: module.training for name, module in model.named_modules()}
    for name, module in smaller.named_modules():
        module.training = modes.get(name, modes.get(name.rpartition(".")[0], model.training))
    stuck = sum(_zero_filters(module) for module in smaller.modules() if isinstance(module, nn.Conv2d))
    layers = tuple(LayerChange(name, channels, after.get(name, channels)) for name, channels in before.items())
    counts = {name: _count(module) for name, module in model.named_modules() if name in after and name not in before}
    others = tuple(LayerChange(name, count, after[name]) for name, count in counts.items())
    smaller.removal = Removal(layers, stuck, others)
    return smaller, difference


@torch.no_grad()
def is_rounding(model: nn.Module, example_inputs: Tensor) -> bool:
    """Is what a removal changes in `model` rounding alone? The same removal in float64 tells it: where outputs are large, as
    those of a network whose channels have just gone often are, float32 rounds by more than any fixed number."""
    exact, inputs = copy.deepcopy(model).double().eval(), example_inputs.double()
    _, difference = remove_channels(exact, inputs)
    return difference <= EXACT * max(1.0, float(exact(inputs).abs().max()))


def _count(module: nn.Module) -> int:
    """Output features of a linear layer, heads of attention."""
    if isinstance(module, nn.Linear):
        return module.out_features
    return module.num_heads if isinstance(module, nn.MultiheadAttention) else int(module.heads)


def _zero_filters(conv: nn.Conv2d) -> int:
    return int((conv.weight.detach().flatten(1) == 0).all(1).sum())
