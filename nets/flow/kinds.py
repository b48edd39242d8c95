"""What one traced operation does to channels: writes new ones, maps each by itself, joins, routes, or is not understood.

Everything that is not listed here is OPAQUE, which is safe: its inputs and outputs keep all their channels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from nets.flow.arithmetic import classify_arithmetic
from nets.flow.moves import classify_move
from nets.flow.op import Kind, Op, Reading, opaque
from nets.resnet import PadShortcut
from nets.shrink.scatter import Constant, Scatter

__all__ = ["Kind", "classify", "keeps_constants", "map_value"]

MAP_MODULES = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Softplus, nn.Softsign, nn.Identity, nn.Dropout, nn.Dropout2d),
)
MAP_FUNCTIONS = (
    *(F.relu, F.relu_, torch.relu, torch.relu_, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, F.hardswish),
    *(torch.sigmoid, torch.tanh, F.sigmoid, F.tanh, F.hardsigmoid, F.hardtanh, F.softplus),
)
MAP_METHODS = ("relu", "relu_", "sigmoid", "tanh", "contiguous")
POOL_MODULES = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d, nn.MaxPool2d, nn.Upsample)
POOL_FUNCTIONS = (F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.avg_pool2d, F.max_pool2d, F.interpolate)


def classify(
    node: fx.Node,
    modules: Mapping[str, nn.Module],
    inputs: Sequence[Op],
    shape: tuple[int, ...],
    exclusive: frozenset[str],
) -> Reading:
    """What a node that yields one tensor of `shape` is; `inputs` are the tensors it reads."""
    if node.op in ("placeholder", "get_attr"):
        return Reading(Kind.SOURCE, opaque(shape).axis)
    if node.op == "call_module":
        return _classify_module(modules[str(node.target)], inputs, shape, str(node.target) in exclusive)
    found = classify_arithmetic(node, inputs, shape) or classify_move(node, inputs)
    if found is not None or len(inputs) != 1 or len(inputs[0].shape) < 2:
        return found or opaque(shape)
    source = inputs[0]
    if _drops_out(node):
        return Reading(Kind.MAP, source.axis) if _is_evaluating(node) else opaque(shape)
    if node.target in MAP_FUNCTIONS or (node.op == "call_method" and node.target in MAP_METHODS):
        return Reading(Kind.MAP, source.axis)
    if node.target in POOL_FUNCTIONS and len(source.shape) == 4:
        return Reading(Kind.POOL, 1, 1)
    return opaque(shape)


def _classify_module(module: nn.Module, inputs: Sequence[Op], shape: tuple[int, ...], exclusive: bool) -> Reading:
    kind, unknown = type(module), opaque(shape)
    if len(inputs) != 1 or len(inputs[0].shape) < 2:
        return unknown
    source, rank = inputs[0], len(inputs[0].shape)
    if kind in MAP_MODULES:
        return Reading(Kind.MAP, source.axis)
    if kind in POOL_MODULES and not getattr(module, "return_indices", False):
        return Reading(Kind.POOL, 1, 1) if rank == 4 else unknown
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        return Reading(Kind.POOL, 1, 1)
    if kind is nn.LayerNorm:
        return Reading(Kind.OPAQUE, rank - 1, rank - 1)  # its statistics run over the channels: all are kept
    if not exclusive:
        return unknown
    if kind is nn.Conv2d and rank == 4:
        return Reading(_classify_convolution(module), 1, 1)
    if kind is nn.Linear:
        return Reading(Kind.WRITE, rank - 1, rank - 1)
    if (kind is nn.BatchNorm2d and rank == 4) or (kind is nn.BatchNorm1d and rank == 2):
        return Reading(Kind.NORM, 1, 1)
    if kind is PadShortcut and rank == 4:
        return Reading(Kind.ROUTE, 1, 1)
    if isinstance(module, Scatter):
        return Reading(Kind.ROUTE, module.axis % rank, module.axis % rank)
    if isinstance(module, Constant):
        return Reading(Kind.CONSTANT, 1 if module.span else rank - 1)
    return unknown


def _classify_convolution(module: Any) -> Kind:
    if module.groups == 1:
        return Kind.WRITE
    return Kind.DEPTHWISE if module.groups == module.in_channels == module.out_channels else Kind.GROUPED


def _drops_out(node: fx.Node) -> bool:
    return node.target in (F.dropout, F.dropout2d) or _is_stochastic_depth(node)


def _is_stochastic_depth(node: fx.Node) -> bool:
    # known by name: importing torchvision takes longer than everything here
    return getattr(node.target, "__module__", "") == "torchvision.ops.stochastic_depth"


def _is_evaluating(node: fx.Node) -> bool:
    """Is the flag `training` written in the call, and false?"""
    place = 3 if _is_stochastic_depth(node) else 2
    return node.kwargs.get("training", node.args[place] if len(node.args) > place else True) is False


def keeps_constants(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Does this POOL turn a channel that is the same number c != 0 everywhere into one that is c everywhere?
    (Average pooling over zero padding, or over windows that reach outside, does not; an average over a window may round.)"""
    if node.op == "call_module":
        module = modules[str(node.target)]
        if not isinstance(module, nn.AvgPool2d):
            return True
        return not any(_pair(module.padding)) and not module.ceil_mode and module.divisor_override is None
    if node.target is F.avg_pool2d:
        return len(node.args) <= 3 and set(node.kwargs) <= {"kernel_size", "stride"}
    return True


def map_value(node: fx.Node, modules: Mapping[str, nn.Module], value: Tensor) -> Tensor:
    """Apply a MAP to a vector of numbers (in evaluation mode, so dropout passes them on)."""
    if node.op == "call_module":
        return modules[str(node.target)](value.clone())
    if node.op == "call_method":
        return getattr(value.clone(), str(node.target))(*node.args[1:], **node.kwargs)
    function: Any = node.target
    put = {name: value.clone() if isinstance(given, fx.Node) else given for name, given in node.kwargs.items()}
    return function(*(value.clone() if isinstance(given, fx.Node) else given for given in node.args), **put)


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)
