"""Coupled groups: all slices that die together over additions, products, grouped convolutions and concatenations.

    model -> trace (torch-pruning, on a copy) -> ties -> sets that stand the numeric test -> Layers

Left out, with the reason: the network's outputs, channels tied to its inputs, channels that a LayerNorm or anything else
reads as a whole (a zero there changes the statistics of the others), layers called twice or sharing a parameter, and sets
that torch-pruning followed wrongly.
"""

from collections import Counter

import numpy as np
import torch
from torch import Tensor, nn

from nets.structures.coupling_check import find_wrong_sets
from nets.structures.coupling_places import NORMS
from nets.structures.coupling_ties import TiedSet, tie_channels
from nets.structures.coupling_trace import Trace, trace_dependencies
from nets.structures.coupling_walk import Ints
from nets.structures.slices import Layer, Span


def coupled_groups(
    model: nn.Module, example_inputs: Tensor | tuple[Tensor, ...], leave: frozenset[str]
) -> tuple[tuple[Layer, ...], tuple[tuple[str, str], ...]]:
    """(Layers in the order of their first writer's call, (writer, reason) of those with channels in no group).

    leave: names of layers that are grouped elsewhere. `model` is not changed. InputError where it cannot be followed.
    """
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    trace = trace_dependencies(model, inputs)
    sets, skipped = tie_channels(trace, leave, _refuse_modules(trace))
    wrong = find_wrong_sets(trace.network, trace.inputs, sets)
    for tied in wrong:
        for writer in tied.writers:
            skipped[writer.name] = "torch-pruning follows its channels wrongly: renumbering them changes the outputs"
    right = [tied for tied in sets if tied not in wrong]
    order = {name: i for i, name in enumerate(trace.calls)}
    right.sort(key=lambda tied: (order[tied.writers[0].name], _first_channel(tied)))
    names: set[str] = set()
    layers = []
    for tied in right:
        name = tied.writers[0].name
        name = f"{name}@{_first_channel(tied)}" if name in names else name
        names.add(name)
        layers.append(_make_layer(model, name, tied))
    return tuple(layers), tuple(skipped.items())


def _first_channel(tied: TiedSet) -> int:
    return int(next(index.min() for place, index in tied.sides if place.writes))


def _make_layer(model: nn.Module, name: str, tied: TiedSet) -> Layer:
    parameters = dict(model.named_parameters(remove_duplicate=False))
    spans = [
        _make_span(parameters[tensor], dim, index)
        for place, index in tied.sides
        if place.side == "out"
        for tensor, dim in place.slices()
        if tensor in parameters
    ]
    norms = [place.name for place, _ in tied.sides if isinstance(place.owner, NORMS)]
    members = tuple(place.name for place in tied.writers)
    return Layer(name, norms[0] if norms else None, tuple(spans), tied.channels, members)


def _make_span(parameter: nn.Parameter, dim: int, index: Ints) -> Span:
    size = parameter.shape[dim]
    if dim == 0 and index.shape == (size, 1) and np.array_equal(index[:, 0], np.arange(size)):
        return Span(parameter)
    return Span(parameter, dim, torch.from_numpy(np.ascontiguousarray(index)).to(parameter.device))


def _refuse_modules(trace: Trace) -> dict[str, str]:
    """Modules that hold numbers nobody may move: name -> why."""
    owners = Counter(id(p) for _, p in trace.network.named_parameters(remove_duplicate=False))
    refused = {}
    for name, module in trace.network.named_modules():
        own = [p for p in module._parameters.values() if p is not None]
        if trace.calls.get(name, 0) > 1:
            refused[name] = "it is called twice in one forward pass"
        elif any(owners[id(p)] > 1 for p in own):
            refused[name] = "it shares a parameter with another layer"
        elif hasattr(module, "weight") and isinstance(module.weight, Tensor) and "weight" not in module._parameters:
            refused[name] = "it has no weight of its own (a parametrisation?)"
    return refused
