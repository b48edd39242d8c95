"""Sums and products of two tensors with the same channels, of a tensor and a parameter, of a tensor and a number."""

import operator
from collections.abc import Sequence

import torch
from torch import fx

from nets.flow.op import Kind, Op, Reading

ADDS = (operator.add, operator.iadd, torch.add, "add", "add_")
PRODUCTS = (operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_")
WITH_NUMBERS = (operator.sub, operator.isub, torch.sub, "sub", operator.truediv, operator.itruediv, torch.div, "div")
GUESSED = (Kind.SOURCE, Kind.OPAQUE)


def classify_arithmetic(node: fx.Node, inputs: Sequence[Op], shape: tuple[int, ...]) -> Reading | None:
    """ADD or MUL of two tensors, MAP for a tensor and a number written in the code; None where it is neither."""
    adds, multiplies = node.target in ADDS, node.target in PRODUCTS
    if not (adds or multiplies or node.target in WITH_NUMBERS) or node.kwargs or len(node.args) != 2 or not inputs:
        return None
    if any(isinstance(argument, int | float) for argument in node.args):
        return Reading(Kind.MAP, inputs[0].axis)
    operands = [op for argument in node.args for op in inputs if op.node is argument]
    if len(operands) != 2 or not (adds or multiplies):
        return None
    whole = [op for op in operands if op.shape == shape]
    if not whole:
        return None
    axis = next((op.axis for op in whole if op.kind not in GUESSED), whole[0].axis)
    first, second = operands
    if not (_fits(first, shape, axis) and _fits(second, shape, axis)):
        return None
    return Reading(Kind.ADD if adds else Kind.MUL, axis, axis)


def per_channel(op: Op, shape: tuple[int, ...], axis: int) -> bool:
    """Is this a parameter with one number for each channel of a tensor of `shape`, and read nowhere else?"""
    place = axis - (len(shape) - len(op.shape))
    return (
        op.node.op == "get_attr"
        and len(op.node.users) == 1
        and place >= 0
        and op.shape[place] == shape[axis]
        and all(size == 1 for k, size in enumerate(op.shape) if k != place)
    )


def _fits(op: Op, shape: tuple[int, ...], axis: int) -> bool:
    """The same number of channels in the same place; the other sizes may be stretched from 1."""
    if per_channel(op, shape, axis):
        return True
    same = len(op.shape) == len(shape) and op.shape[axis] == shape[axis]
    return same and all(mine in (1, size) for mine, size in zip(op.shape, shape, strict=True))
