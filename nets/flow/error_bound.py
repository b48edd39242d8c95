"""How far the outputs of a network can move when its weights do: a rigorous bound, number by number, layer by layer.

With x a tensor of the dense network and e >= |x' - x| what is known of the pruned one's, e is carried through each operation:

    W' x' + b'       e <- |W'| e + |(W' x + b') - (W x + b)|
                     or, where only a bound l on the Euclidean norm of each neuron's lost weights is known,
                     e <- |W'| e + l sqrt(sum of x^2 over what the neuron reads) + |b' - b|
    normalisation    the same, with its scale (evaluation mode)
    an activation    e <- L e, L its Lipschitz constant
    pooling          of e (a maximum moves by at most the largest e)
    x + y, x y       e + f;  |x| f + |y| e + e f

Interval arithmetic in float64 (whose own rounding is not counted) on given images: it holds for these, whatever the layers
between.
"""

import copy
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from nets.flow.trace import trace
from nets.resnet import PadShortcut
from perspective.errors import InputError

LIPSCHITZ: dict[type[nn.Module], float] = {
    **dict.fromkeys((nn.ReLU, nn.ReLU6, nn.Identity, nn.Dropout, nn.Dropout2d, nn.Hardtanh, nn.Tanh, nn.Softplus), 1.0),
    **{nn.Sigmoid: 0.25, nn.Hardsigmoid: 1 / 6, nn.Hardswish: 1.5, nn.SiLU: 1.1, nn.GELU: 1.13},
}
LINEAR = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, PadShortcut)  # with weights >= 0, none of them pruned
LARGEST = (nn.MaxPool2d, nn.AdaptiveMaxPool2d)
SAME = (F.relu, torch.relu, F.relu6, torch.tanh)
ON_BOTH = (torch.flatten, F.adaptive_avg_pool2d, F.avg_pool2d, torch.mean, torch.reshape)
METHODS = ("mean", "flatten", "view", "reshape", "contiguous", "permute", "transpose")


@final
@dataclass(frozen=True)
class OutputChange:
    """bound, measured: of the largest change of an output over the images; largest: the largest |output| of the dense
    network."""

    bound: float
    measured: float
    largest: float


@torch.no_grad()
def bound_outputs(
    dense: nn.Module, pruned: nn.Module, images: Tensor, lost: Mapping[str, Tensor] | None = None
) -> OutputChange:
    """The bound and the truth, on `images` (batch, ...). pruned: the same network with other weights, none of it removed.

    lost: by layer (channels,), bounds on the Euclidean norm of each neuron's weight difference; the layers it does not name, or
    all, by their weights themselves. InputError where an operation has no rule; it names it.
    """
    dense, pruned = copy.deepcopy(dense).cpu().double().eval(), copy.deepcopy(pruned).cpu().double().eval()
    images = images.cpu().double()
    traced = trace(dense, (images,))
    walk = _Walk(traced.nodes, traced.modules, dict(pruned.named_modules()), lost or {})
    values = walk.run(images)
    truth, moved = dense(images), pruned(images)
    return OutputChange(float(values.error.max()), float((moved - truth).abs().max()), float(truth.abs().max()))


@final
@dataclass(frozen=True)
class _Value:
    x: Tensor
    error: Tensor


@final
@dataclass(frozen=True)
class _Walk:
    nodes: tuple[fx.Node, ...]
    dense: Mapping[str, nn.Module]
    pruned: Mapping[str, nn.Module]
    lost: Mapping[str, Tensor]

    def run(self, images: Tensor) -> _Value:
        known: dict[fx.Node, Any] = {}
        for node in self.nodes:
            args = fx.map_arg(node.args, lambda n: known[n])
            kwargs = fx.map_arg(node.kwargs, lambda n: known[n])
            if node.op == "placeholder":
                known[node] = _Value(images, torch.zeros_like(images))
            elif node.op == "output":
                return args[0]
            elif node.op == "call_module" and len(args) == 1:
                known[node] = self._through(str(node.target), args[0])
            elif node.op == "call_function":
                known[node] = _called(node, args, kwargs)
            elif node.op == "call_method" and node.target in METHODS and isinstance(args[0], _Value):
                call = [getattr(part, str(node.target)) for part in (args[0].x, args[0].error)]
                known[node] = _Value(*(function(*args[1:], **kwargs) for function in call))
            elif node.op == "call_method" and node.target == "size":
                known[node] = args[0].x.size(*args[1:])
            else:
                raise _unknown(node)
        raise InputError("the network has no output; there is nothing to bound")

    def _through(self, name: str, value: _Value) -> _Value:
        one, other = self.dense[name], self.pruned[name]
        kind, x, error = type(one), value.x, value.error
        if kind in LIPSCHITZ:
            return _Value(one(x), LIPSCHITZ[kind] * error)
        if kind in LINEAR or kind in LARGEST:
            return _Value(one(x), one(error))
        if kind in (nn.Conv2d, nn.Linear):
            y, spread = one(x), _absolute(other)(error)
            if name not in self.lost:
                return _Value(y, spread + (other(x) - y).abs())
            shape = (-1, 1, 1) if kind is nn.Conv2d else (-1,)
            read = _ones(one)(x.square()).clamp(min=0).sqrt()
            bias = 0.0 if one.bias is None else (one.bias - other.bias).abs().view(shape)
            return _Value(y, spread + self.lost[name].double().view(shape) * read + bias)
        if kind in (nn.BatchNorm2d, nn.BatchNorm1d):
            y = one(x)
            scale = (other(torch.ones_like(x)) - other(torch.zeros_like(x))).abs()
            return _Value(y, scale * error + (other(x) - y).abs())
        raise InputError(f"there is no rule that bounds an error through {name} ({kind.__name__})")


def _called(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    function: Any = node.target
    values = [part for part in args if isinstance(part, _Value)]
    if not values:
        if function in (operator.getitem, operator.add, operator.mul, operator.floordiv):
            return function(*args, **kwargs)
        raise _unknown(node)
    if function in (operator.add, operator.iadd, torch.add) and not kwargs:
        one, other = (part if isinstance(part, _Value) else _constant(part) for part in args)
        return _Value(one.x + other.x, one.error + other.error)
    if function in (operator.mul, torch.mul) and not kwargs:
        one, other = (part if isinstance(part, _Value) else _constant(part) for part in args)
        error = one.x.abs() * other.error + other.x.abs() * one.error + one.error * other.error
        return _Value(one.x * other.x, error)
    if function in SAME:
        return _Value(function(values[0].x), values[0].error)
    if function in ON_BOTH or (function is F.max_pool2d):
        return _Value(*(function(part, *args[1:], **kwargs) for part in (values[0].x, values[0].error)))
    raise _unknown(node)


def _constant(number: Any) -> _Value:
    x = torch.as_tensor(number, dtype=torch.float64)
    return _Value(x, torch.zeros_like(x))


def _absolute(module: Any) -> Any:
    """The layer with |W| and without a bias."""
    layer = copy.deepcopy(module)
    layer.weight.data.abs_()
    layer.bias = None
    return layer


def _ones(module: Any) -> Any:
    """The layer that sums what each neuron reads."""
    layer = _absolute(module)
    layer.weight.data.fill_(1.0)
    return layer


def _unknown(node: fx.Node) -> InputError:
    return InputError(f"there is no rule that bounds an error through {getattr(node.target, '__name__', node.target)}")
