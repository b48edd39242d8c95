"""Tensors of which nothing may be concluded, because something overwrites them, and readings that do no harm."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from nets.flow.op import Op

FRESH = (
    operator.add,
    torch.add,
    operator.mul,
    torch.mul,
    torch.cat,
    F.relu,
    torch.relu,
)  # results with memory of their own


def harmless_reading(node: fx.Node, ops: Mapping[str, Op]) -> bool:
    """Does this node, which yields no tensor, read none, or ask only for sizes that are no number of channels?"""
    tensors = [ops[source.name] for source in node.all_input_nodes if source.name in ops]
    if not tensors:
        return True
    if node.op == "output" or len(node.all_input_nodes) > 1:
        return False
    if node.op == "call_method" and node.target == "size" and len(node.args) == 2:
        return _leaves_out_channels(node.args[1], tensors[0])
    if (node.op == "call_method" and node.target == "dim") or (
        node.target is getattr and node.args[1] in ("ndim", "dtype", "device")
    ):
        return True
    whole = (node.op == "call_method" and node.target == "size") or (node.target is getattr and node.args[1] == "shape")
    return whole and all(
        user.target is operator.getitem and (_leaves_out_channels(user.args[1], tensors[0]) or not user.users)
        for user in node.users
    )


def _leaves_out_channels(place: Any, source: Op) -> bool:
    """Is this dimension (or are these: a slice) of a tensor's shape not that of the channels?"""
    rank = len(source.shape)
    if isinstance(place, slice):
        numbers = all(isinstance(n, int | None) for n in (place.start, place.stop, place.step))
        return numbers and source.axis not in range(rank)[place]
    return isinstance(place, int) and -rank <= place < rank and place % rank != source.axis


def overwritten(nodes: Sequence[fx.Node], modules: Mapping[str, nn.Module], tensors: Mapping[str, Any]) -> set[str]:
    """Names of tensors that an in-place operation changes although something else reads them too (or may share memory
    with them): what later readers see is not what was computed there, so nothing may be concluded about them."""
    names: set[str] = set()
    for node in nodes:
        if not _in_place(node, modules) or not node.all_input_nodes:
            continue
        walk = [node.all_input_nodes[0]]
        while _may_alias(walk[-1], modules) and walk[-1].all_input_nodes:
            walk.append(walk[-1].all_input_nodes[0])
        if any(sum(user.name in tensors for user in seen.users) > 1 for seen in walk):
            names.update(seen.name for seen in walk)
    return names


def _in_place(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return bool(getattr(modules[str(node.target)], "inplace", False))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    augmented = node.target in (operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.setitem)
    return augmented or bool(node.kwargs.get("inplace")) or (name.endswith("_") and not name.endswith("__"))


def _may_alias(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    if node.op == "call_module":
        module = modules[str(node.target)]
        return isinstance(module, nn.Identity | nn.Dropout | nn.Dropout2d | nn.Flatten) or _in_place(node, modules)
    return node.op != "placeholder" and node.target not in FRESH
