"""What one traced operation does to channels: writes new ones, maps each by itself, adds, routes, or is not understood.

Everything that is not listed here is OPAQUE, which is safe: its inputs and outputs keep all their channels.
"""

import operator
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any, final

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from nets.resnet import PadShortcut
from nets.scatter import Constant, Scatter


@final
class Kind(Enum):
    """The part an operation plays for channels (dimension 1)."""

    SOURCE = auto()  # an input of the network, or a parameter read directly
    WRITE = auto()  # ungrouped Conv2d, or Linear on (batch, features)
    DEPTHWISE = auto()  # Conv2d with as many groups as inputs and outputs
    NORM = auto()  # BatchNorm
    MAP = auto()  # one function of each number: ReLU, sigmoid, dropout in evaluation mode
    POOL = auto()  # acts inside each channel: pooling, mean over positions, flattening
    ADD = auto()
    ROUTE = auto()  # every output channel is one input channel or a constant: PadShortcut, Scatter
    CONSTANT = auto()  # what an earlier removal left of a layer
    OPAQUE = auto()


MAP_MODULES = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh, nn.Hardswish),
    *(nn.Hardsigmoid, nn.Softplus, nn.Identity, nn.Dropout, nn.Dropout2d),
)
MAP_FUNCTIONS = (
    *(F.relu, F.relu_, torch.relu, torch.relu_, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, F.hardswish),
    *(torch.sigmoid, torch.tanh, F.hardsigmoid, F.softplus, F.dropout, F.dropout2d),
)
MAP_METHODS = ("relu", "relu_", "sigmoid", "tanh", "contiguous")
POOL_MODULES = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d, nn.MaxPool2d)
POOL_FUNCTIONS = (F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.avg_pool2d, F.max_pool2d)


def classify(
    node: fx.Node,
    modules: Mapping[str, nn.Module],
    inputs: Sequence[tuple[int, ...]],
    shape: tuple[int, ...],
    exclusive: frozenset[str],
) -> Kind:
    """The kind of a node that yields one tensor of `shape`; `inputs` are the shapes of the tensors it reads."""
    if node.op in ("placeholder", "get_attr"):
        return Kind.SOURCE
    if any(len(s) not in (2, 4) for s in (shape, *inputs)):
        return Kind.OPAQUE
    if node.op == "call_module":
        return _classify_module(modules[str(node.target)], inputs, str(node.target) in exclusive)
    if node.target in (operator.add, operator.iadd, torch.add, "add", "add_"):
        both = len(inputs) == 2 and inputs[0] == inputs[1] and len(node.args) == 2 and not node.kwargs
        doubled = len(inputs) == 1 and node.args[:2] == (node.all_input_nodes[0],) * 2 and not node.kwargs
        return Kind.ADD if both or doubled else Kind.OPAQUE
    if len(inputs) != 1:
        return Kind.OPAQUE
    if node.target in (F.dropout, F.dropout2d):
        return Kind.OPAQUE if node.kwargs.get("training", True) or len(node.args) > 2 else Kind.MAP
    if node.target in MAP_FUNCTIONS or (node.op == "call_method" and node.target in MAP_METHODS):
        return Kind.MAP
    if node.target in POOL_FUNCTIONS or _flattens(node, inputs[0]) or _averages(node, inputs[0]):
        return Kind.POOL
    return Kind.OPAQUE


def _classify_module(module: nn.Module, inputs: Sequence[tuple[int, ...]], exclusive: bool) -> Kind:
    kind = type(module)
    if len(inputs) != 1:
        return Kind.OPAQUE
    if kind in MAP_MODULES:
        return Kind.MAP
    if kind in POOL_MODULES and not getattr(module, "return_indices", False):
        return Kind.POOL
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        return Kind.POOL
    if not exclusive:
        return Kind.OPAQUE
    if isinstance(module, nn.Conv2d) and kind is nn.Conv2d:
        if module.groups == 1:
            return Kind.WRITE
        return Kind.DEPTHWISE if module.groups == module.in_channels == module.out_channels else Kind.OPAQUE
    if kind is nn.Linear:
        return Kind.WRITE if len(inputs[0]) == 2 else Kind.OPAQUE
    if kind in (nn.BatchNorm2d, nn.BatchNorm1d):
        return Kind.NORM
    if kind in (PadShortcut, Scatter):
        return Kind.ROUTE
    return Kind.CONSTANT if kind is Constant else Kind.OPAQUE


def keeps_constants(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Does this POOL turn a channel that is the same number c != 0 everywhere into one that is c everywhere?
    (Average pooling over zero padding, or over windows that reach outside, does not.)"""
    if node.op == "call_module":
        module = modules[str(node.target)]
        return not isinstance(module, nn.AvgPool2d) or (not any(_pair(module.padding)) and not module.ceil_mode)
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
    rest = {name: argument for name, argument in node.kwargs.items() if not isinstance(argument, fx.Node)}
    return function(value.clone(), *node.args[1:], **rest)


def harmless_reading(node: fx.Node, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Does this node, which yields no tensor, read none, or ask only for the batch size or the picture's size?"""
    tensors = [source for source in node.all_input_nodes if source.name in shapes]
    if not tensors:
        return True
    if node.op == "output" or len(node.all_input_nodes) > 1:
        return False
    safe = (0, 2, 3, -1, -2) if len(shapes[tensors[0].name]) == 4 else (0,)
    if node.op == "call_method" and node.target == "size" and len(node.args) == 2:
        return node.args[1] in safe
    whole = (node.op == "call_method" and node.target == "size") or (node.target is getattr and node.args[1] == "shape")
    return whole and all(
        user.target is operator.getitem and (user.args[1] in safe or not user.users) for user in node.users
    )


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
    return node.op != "placeholder" and node.target not in (operator.add, torch.add, F.relu, torch.relu)


def _flattens(node: fx.Node, shape: tuple[int, ...]) -> bool:
    """torch.flatten(x, 1), x.flatten(1), x.view(x.size(0), -1): everything behind the batch in one row, channel by channel."""
    if node.target is torch.flatten or (node.op == "call_method" and node.target == "flatten"):
        return (node.args[1:] == (1,) and not node.kwargs) or (
            len(node.args) == 1 and dict(node.kwargs) == {"start_dim": 1}
        )
    reshapes = (node.op == "call_method" and node.target in ("view", "reshape")) or node.target is torch.reshape
    rest = node.args[1] if len(node.args) == 2 and isinstance(node.args[1], tuple | list) else node.args[1:]
    # the batch size must be asked for, not written as a number, and it is what the shape's first entry says
    return reshapes and len(rest) == 2 and isinstance(rest[0], fx.Node) and rest[1] == -1 and _asks_batch(rest[0])


def _asks_batch(node: fx.Node) -> bool:
    if node.op == "call_method" and node.target == "size":
        return node.args[1:] == (0,)
    return node.target is operator.getitem and node.args[1] == 0


def _averages(node: fx.Node, shape: tuple[int, ...]) -> bool:
    if node.target is not torch.mean and not (node.op == "call_method" and node.target == "mean"):
        return False
    dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else ())
    dims = dims if isinstance(dims, tuple | list) else (dims,)
    return len(shape) == 4 and sorted(d % 4 for d in dims if isinstance(d, int)) == [2, 3] and len(dims) == 2


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)
