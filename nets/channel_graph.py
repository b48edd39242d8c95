"""The network as a graph of operations on channels: who writes, passes on and reads each channel.

A *space* is a set of tensors that must keep the same channels (both sides of an addition; a tensor and its ReLU).
An operation that is not understood is *opaque*: the spaces it touches are pinned and keep every channel, so that
not knowing an operation never changes what the network computes.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from torch import Tensor, fx, nn

from nets.channel_kinds import Kind, classify, harmless_reading, overwritten
from nets.channel_trace import Trace, trace


@final
@dataclass(frozen=True)
class Op:
    """One tensor of the network and how it is made. `features` is how many numbers of dimension 1 belong to one channel
    (more than 1 only behind a flattening); `module` is the path of the module that makes it, if one does."""

    name: str
    kind: Kind
    inputs: tuple[str, ...]
    node: fx.Node
    module: str | None
    channels: int
    features: int


@final
@dataclass(frozen=True)
class Writer:
    """A convolution or linear layer and the normalisation that alone reads it; they shrink together.

    layer, norm, end   names of the operations; `end` is the last of them, where a Scatter would stand
    """

    layer: str
    norm: str | None
    end: str


@final
@dataclass(frozen=True)
class ChannelGraph:
    """ops: by name, in running order; space: each op's space; pinned: spaces that keep all channels; writers: see Writer."""

    ops: Mapping[str, Op]
    modules: Mapping[str, nn.Module]
    space: Mapping[str, int]
    pinned: frozenset[int]
    writers: tuple[Writer, ...]

    def width(self, space: int) -> int:
        """Number of channels of a space."""
        return next(op.channels for name, op in self.ops.items() if self.space[name] == space)


def build_graph(model: nn.Module, inputs: tuple[Tensor, ...]) -> ChannelGraph:
    """Trace `model` (in evaluation mode) and sort its tensors into spaces. InputError where it cannot be traced."""
    traced = trace(model, inputs)
    exclusive = _exclusive(model, traced)
    spoiled = overwritten(traced.nodes, traced.modules, traced.shapes)
    ops: dict[str, Op] = {}
    for node in traced.nodes:
        if node.name in traced.shapes and node.op != "output":
            ops[node.name] = _operation(node, traced, ops, exclusive, node.name in spoiled)
    chained = {
        op.name: op.inputs[0]
        for op in ops.values()
        if op.kind is Kind.NORM and ops[op.inputs[0]].kind is Kind.WRITE and len(ops[op.inputs[0]].node.users) == 1
    }
    writers = tuple(
        Writer(op.name, norm, norm or op.name)
        for op in ops.values()
        if op.kind is Kind.WRITE
        for norm in [next((n for n, layer in chained.items() if layer == op.name), None)]
    )
    space, pinned = _spaces(traced, ops, chained)
    return ChannelGraph(ops, traced.modules, space, pinned, writers)


def _operation(node: fx.Node, traced: Trace, ops: Mapping[str, Op], exclusive: frozenset[str], spoiled: bool) -> Op:
    inputs = tuple(n.name for n in node.all_input_nodes if n.name in ops)
    shape = traced.shapes[node.name]
    module = str(node.target) if node.op == "call_module" else None
    input_shapes = [traced.shapes[name] for name in inputs]
    kind = Kind.OPAQUE if spoiled else classify(node, traced.modules, input_shapes, shape, exclusive)
    first = ops[inputs[0]] if inputs else None
    channels = shape[1] if len(shape) > 1 else 1
    if kind in (Kind.NORM, Kind.DEPTHWISE) and first and first.features > 1:
        kind = Kind.OPAQUE
    if kind in (Kind.MAP, Kind.POOL, Kind.ADD) and first:
        if any((ops[name].channels, ops[name].features) != (first.channels, first.features) for name in inputs):
            kind = Kind.OPAQUE
        else:
            channels = first.channels
    features = shape[1] // channels if len(shape) > 1 else 1
    return Op(node.name, kind, inputs, node, module, channels, features)


def _exclusive(model: nn.Module, traced: Trace) -> frozenset[str]:
    """Modules that may be replaced: called once, without hooks, sharing no parameter, read by nobody else."""
    owners = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    calls = Counter(str(node.target) for node in traced.nodes if node.op == "call_module")
    read = {str(node.target).rpartition(".")[0] for node in traced.nodes if node.op == "get_attr"}
    return frozenset(
        path
        for path, count in calls.items()
        if count == 1
        and path not in read
        and all(owners[id(p)] == 1 for p in traced.modules[path].parameters())
        and not any(
            getattr(traced.modules[path], hooks)
            for hooks in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        )
    )


def _spaces(traced: Trace, ops: Mapping[str, Op], chained: Mapping[str, str]) -> tuple[dict[str, int], frozenset[int]]:
    """Union-find over the tensors; returns each one's space and the pinned spaces."""
    parent = {name: name for name in ops}

    def find(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for op in ops.values():
        passes = op.kind in (Kind.MAP, Kind.POOL, Kind.ADD, Kind.NORM, Kind.DEPTHWISE) and op.name not in chained
        for source in op.inputs if passes else ():
            parent[find(source)] = find(op.name)
    fixed = set()
    for node in traced.nodes:
        readers = [n.name for n in node.all_input_nodes if n.name in ops]
        if node.name not in ops and not harmless_reading(node, traced.shapes):  # the output, or a use of the shape
            fixed.update(readers)
        elif node.name in ops and ops[node.name].kind in (Kind.OPAQUE, Kind.SOURCE):
            fixed.update([node.name, *readers])
    numbers = {root: k for k, root in enumerate(dict.fromkeys(find(name) for name in ops))}
    return {name: numbers[find(name)] for name in ops}, frozenset(numbers[find(name)] for name in fixed)
