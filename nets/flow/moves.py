"""Operations that leave the numbers of each channel together and only move them: where do the channels lie afterwards?"""

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from nets.flow.op import Kind, Op, Reading

CONCATENATIONS = (torch.cat, torch.concat, torch.concatenate)


def classify_move(node: fx.Node, inputs: Sequence[Op]) -> Reading | None:
    """CAT, or POOL for a flattening, a mean over positions, permuted dimensions, skipped positions; None for all else."""
    if not inputs:
        return None
    if node.target in CONCATENATIONS:
        return _concatenation(node, inputs)
    if len(inputs) != 1:
        return None
    return (
        _flattening(node, inputs[0])
        or _mean(node, inputs[0])
        or _permutation(node, inputs[0])
        or _skip(node, inputs[0])
    )


def _named(node: fx.Node, name: str) -> bool:
    return node.target == name if node.op == "call_method" else node.target is getattr(torch, name)


def _concatenation(node: fx.Node, inputs: Sequence[Op]) -> Reading | None:
    parts = node.args[0] if node.args else node.kwargs.get("tensors")
    dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
    rank = len(inputs[0].shape)
    if not isinstance(parts, list | tuple) or len(parts) != len(inputs) or not isinstance(dim, int):
        return None
    alone = all(op.features == 1 and len(op.shape) == rank for op in inputs)
    return Reading(Kind.CAT, dim % rank, dim % rank) if alone and rank > 1 and dim % rank > 0 else None


def _flattening(node: fx.Node, source: Op) -> Reading | None:
    """torch.flatten(x, 1), x.flatten(1), x.view(x.size(0), -1): all behind the batch in one row, channel by channel; or
    torch.flatten(x, 2), which joins positions only."""
    if _named(node, "flatten"):
        start, end = _arguments(node, ("start_dim", "end_dim"), (0, -1))
        if end not in (-1, len(source.shape) - 1):
            return None
        if start == 1 and source.axis == 1:
            return Reading(Kind.POOL, 1)
        return Reading(Kind.POOL, source.axis) if isinstance(start, int) and start > source.axis else None
    reshapes = (node.op == "call_method" and node.target in ("view", "reshape")) or node.target is torch.reshape
    rest = node.args[1] if len(node.args) == 2 and isinstance(node.args[1], tuple | list) else node.args[1:]
    # the batch size must be asked for, not written as a number, and it is what the shape's first entry says
    flat = reshapes and len(rest) == 2 and isinstance(rest[0], fx.Node) and rest[1] == -1 and _asks_batch(rest[0])
    return Reading(Kind.POOL, 1) if flat and source.axis == 1 else None


def _asks_batch(node: fx.Node) -> bool:
    if node.op == "call_method" and node.target == "size":
        return node.args[1:] == (0,)
    return node.target is operator.getitem and node.args[1] == 0


def _mean(node: fx.Node, source: Op) -> Reading | None:
    if not _named(node, "mean") or source.features > 1:
        return None
    dims, keep = _arguments(node, ("dim", "keepdim"), (None, False))
    dims = dims if isinstance(dims, tuple | list) else (dims,)
    if not all(isinstance(d, int) for d in dims) or not isinstance(keep, bool) or set(node.kwargs) - {"dim", "keepdim"}:
        return None
    gone = {d % len(source.shape) for d in dims}
    if source.axis in gone or 0 in gone:
        return None
    return Reading(Kind.POOL, source.axis if keep else source.axis - sum(d < source.axis for d in gone))


def _permutation(node: fx.Node, source: Op) -> Reading | None:
    rank, order = len(source.shape), list(range(len(source.shape)))
    if source.features > 1 or node.kwargs:
        return None
    if _named(node, "permute"):
        order = list(node.args[1] if isinstance(node.args[1], tuple | list) else node.args[1:])
    elif _named(node, "transpose") and len(node.args) == 3:
        first, second = node.args[1:]
        if isinstance(first, int) and isinstance(second, int):
            order[first], order[second] = order[second], order[first]
    else:
        return None
    if not all(isinstance(d, int) for d in order):
        return None
    return Reading(Kind.POOL, [d % rank for d in order].index(source.axis))


def _skip(node: fx.Node, source: Op) -> Reading | None:
    """x[:, :, ::2, ::2]: slices only, and the channels whole."""
    if node.target is not operator.getitem or not isinstance(node.args[1], tuple) or source.features > 1:
        return None
    parts = node.args[1]
    plain = all(isinstance(part, slice) for part in parts) and len(parts) <= len(source.shape)
    whole = source.axis >= len(parts) or parts[source.axis] == slice(None)
    numbers = all(isinstance(n, int | None) for p in parts if isinstance(p, slice) for n in (p.start, p.stop, p.step))
    return Reading(Kind.POOL, source.axis) if plain and whole and numbers else None


def _arguments(node: fx.Node, names: tuple[str, str], usual: tuple[Any, Any]) -> list[Any]:
    """Two arguments behind the tensor, given by place or by name."""
    given = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
    return [given.get(name, value) for name, value in zip(names, usual, strict=True)]
