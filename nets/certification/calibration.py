"""Which layers can lose input channels by themselves, and what arrives at them: inputs by hooks, rows by unfolding.

A layer is prunable by input channel where its input is internal: written by one convolution (with its normalisation and
pointwise maps), read by this layer alone, in no addition. In the CIFAR ResNets these are the second convolutions of the
blocks.
"""

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from nets.flow.graph import ChannelGraph, Op, build_graph
from nets.flow.kinds import Kind
from perspective.errors import InputError

BATCH = 250  # images a forward pass


def prunable_layers(model: nn.Module, example_inputs: Tensor) -> dict[str, int]:
    """Names of the prunable layers in running order -> input channels. InputError where the network cannot be followed."""
    graph = build_graph(copy.deepcopy(model).eval(), (example_inputs,))
    return {
        str(op.module): graph.ops[op.inputs[0]].channels
        for op in graph.ops.values()
        if op.kind is Kind.WRITE and _is_internal(graph, graph.space[op.inputs[0]])
    }


def _is_internal(graph: ChannelGraph, space: int) -> bool:
    if space in graph.pinned or any(op.kind in (Kind.ADD, Kind.ROUTE) for op in _of(graph, space)):
        return False
    writers = [writer for writer in graph.writers if graph.space[writer.end] == space]
    readers = [
        op
        for op in graph.ops.values()
        if graph.space[op.name] != space and any(graph.space[name] == space for name in op.inputs)
    ]
    return len(writers) == 1 and len(readers) == 1


def _of(graph: ChannelGraph, space: int) -> list[Op]:
    return [op for op in graph.ops.values() if graph.space[op.name] == space]


def watch_inputs(model: nn.Module, images: Tensor, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """For each batch of `images` (already normalised), what enters each named layer: {name: (batch, ...)}.

    The model runs in evaluation mode and is left as it was. InputError for a name it does not have, and for a layer that is
    called twice or never.
    """
    modules = dict(model.named_modules())
    for name in names:
        if name not in modules:
            raise InputError(f"the network has no layer {name!r}; the names are those of model.named_modules()")
    found: dict[str, list[Tensor]] = {}
    modes = {module: module.training for module in model.modules()}
    handles = [modules[name].register_forward_pre_hook(_keeper(found, name)) for name in names]
    try:
        model.eval()
        for start in range(0, len(images), BATCH):
            found.clear()
            with torch.no_grad():
                model(images[start : start + BATCH])
            for name in names:
                if len(found.get(name, ())) != 1:
                    times = len(found.get(name, ()))
                    raise InputError(f"{name} is called {times} times in one pass; leave it out of the layers")
            yield {name: found[name][0] for name in names}
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode


def collect_inputs(model: nn.Module, images: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
    """All inputs of the named layers, by default of every prunable one: {name: (images, ...)}; see `watch_inputs`."""
    if len(images) == 0:
        raise InputError("collecting a layer's inputs needs at least one image")
    chosen = list(prunable_layers(model, images[:2])) if names is None else list(names)
    batches = list(watch_inputs(model, images, chosen))
    return {name: torch.cat([batch[name] for batch in batches]) for name in chosen}


def _keeper(found: dict[str, list[Tensor]], name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.setdefault(name, []).append(inputs[0].detach().clone())  # a ReLU after this may work in place

    return keep
