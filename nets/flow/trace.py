"""Follow a network's forward pass symbolically (torch.fx) and note the shape of every tensor in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, fx, nn

from nets.resnet import PadShortcut
from nets.shrink.attention import Attention, ConstantAttention
from nets.shrink.scatter import Constant, Scatter
from perspective.errors import InputError

LEAVES = (PadShortcut, Scatter, Constant, Attention, ConstantAttention)


@final
@dataclass(frozen=True)
class Trace:
    """nodes: the operations in the order they run; shapes: shape of each node that yields one tensor, by node name."""

    nodes: tuple[fx.Node, ...]
    shapes: Mapping[str, tuple[int, ...]]
    modules: Mapping[str, nn.Module]


def trace(model: nn.Module, inputs: tuple[Tensor, ...]) -> Trace:
    """Trace `model` (in evaluation mode, as it stands). InputError names the module that cannot be followed, and why."""
    try:
        with torch.no_grad():
            model(*inputs)
    except Exception as error:  # a user's own forward may raise anything
        raise InputError(
            f"the network does not run on the example inputs ({_first_line(error)}); pass a fitting batch"
        ) from error
    tracer = _Tracer()
    try:
        graph = tracer.trace(model)
    except Exception as error:  # a user's own forward, run on symbols, may raise anything
        where = ".".join(tracer.path[-1:]) or type(model).__name__
        raise InputError(
            f"cannot follow the channels through {where} ({_first_line(error)}); "
            "rewrite its forward without Python control flow on tensor values"
        ) from error
    recorder = _Recorder(fx.GraphModule(tracer.root, graph))
    with torch.no_grad():
        recorder.run(*inputs)
    return Trace(tuple(graph.nodes), recorder.shapes, dict(tracer.root.named_modules()))


@final
class _Tracer(fx.Tracer):
    """Keeps this package's small modules whole and remembers inside which module it stands."""

    def __init__(self) -> None:
        super().__init__()
        self.path: list[str] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LEAVES) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        self.path.append(self.path_of_module(m))
        result = super().call_module(m, forward, args, kwargs)
        self.path.pop()  # not in a finally: after an error the last entry names the culprit
        return result


@final
class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[str, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n.name] = tuple(result.shape)
        return result


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
