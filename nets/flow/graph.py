"""The network as a graph of operations on channels: who writes, passes on and reads each channel.

A *space* is a set of tensors that must keep the same channels (both sides of an addition; a tensor and its ReLU).
An operation that is not understood is *opaque*: the spaces it touches are pinned and keep every channel, so that
not knowing an operation never changes what the network computes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import final

from torch import Tensor, fx, nn

from nets.flow.aliases import harmless_reading, overwritten
from nets.flow.arithmetic import per_channel
from nets.flow.kinds import classify
from nets.flow.op import SAME_CHANNELS, Kind, Op, opaque
from nets.flow.trace import Trace, trace
from nets.shrink.heads import self_attentions

__all__ = ["ChannelGraph", "Op", "Tie", "Writer", "build_graph"]


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
class Tie:
    """A concatenation: channel offset + k of the space `whole` is channel k of the space `part`."""

    whole: int
    offset: int
    part: int


@final
@dataclass(frozen=True)
class ChannelGraph:
    """ops: by name, in running order; space: each op's space; pinned: spaces that keep all channels; writers: see Writer;
    ties: see Tie; attentions: paths of the self-attention modules whose heads may be removed."""

    ops: Mapping[str, Op]
    modules: Mapping[str, nn.Module]
    space: Mapping[str, int]
    pinned: frozenset[int]
    writers: tuple[Writer, ...]
    ties: tuple[Tie, ...]
    attentions: tuple[str, ...]

    def width(self, space: int) -> int:
        """Number of channels of a space."""
        return next(op.channels for name, op in self.ops.items() if self.space[name] == space)

    def readers(self, name: str) -> list[Op]:
        """The operations that read this tensor."""
        return [op for op in self.ops.values() if name in op.inputs]


def build_graph(model: nn.Module, inputs: tuple[Tensor, ...]) -> ChannelGraph:
    """Trace `model` (in evaluation mode) and sort its tensors into spaces. InputError where it cannot be traced."""
    traced = trace(model, inputs)
    owners = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    owners.update(id(b) for _, b in model.named_buffers(remove_duplicate=False))
    exclusive = _exclusive(traced, owners)
    spoiled = overwritten(traced.nodes, traced.modules, traced.shapes)
    ops: dict[str, Op] = {}
    for node in traced.nodes:
        if node.name in traced.shapes and node.op != "output":
            _add_operation(node, traced, ops, exclusive, owners, node.name in spoiled)
    chained = {
        op.name: op.inputs[0]
        for op in ops.values()
        if op.kind is Kind.NORM
        and ops[op.inputs[0]].kind in (Kind.WRITE, Kind.GROUPED)
        and len(ops[op.inputs[0]].node.users) == 1
    }
    writers = tuple(
        Writer(op.name, norm, norm or op.name)
        for op in ops.values()
        if op.kind in (Kind.WRITE, Kind.GROUPED)
        for norm in [next((n for n, layer in chained.items() if layer == op.name), None)]
    )
    space = _spaces(ops, chained)
    pinned = frozenset(space[name] for name in _fixed(traced, ops))
    ties = tuple(tie for op in ops.values() if op.kind is Kind.CAT for tie in _ties(op, ops, space))
    return ChannelGraph(ops, traced.modules, space, pinned, writers, ties, self_attentions(traced, exclusive))


def _add_operation(
    node: fx.Node,
    traced: Trace,
    ops: dict[str, Op],
    exclusive: frozenset[str],
    owners: Mapping[int, int],
    spoiled: bool,
) -> None:
    shape = traced.shapes[node.name]
    sources = [ops[n.name] for n in _arguments(node) if n.name in ops]
    reading = opaque(shape) if spoiled else classify(node, traced.modules, sources, shape, exclusive)
    if reading.kind in (Kind.ADD, Kind.MUL) and reading.reads is not None:
        for op in sources:
            if per_channel(op, shape, reading.reads) and owners[id(_tensor(traced.modules, str(op.node.target)))] == 1:
                at = reading.reads - (len(shape) - len(op.shape))
                ops[op.name] = replace(op, kind=Kind.PARAMETER, axis=at, channels=op.shape[at])
    inputs = tuple(_seen_along(ops, op.name, reading.reads) for op in sources)
    kind, channels = reading.kind, shape[reading.axis] if shape else 1
    widths = {(ops[name].channels, ops[name].features) for name in inputs}
    if kind in SAME_CHANNELS:
        count, features = next(iter(widths))
        single = kind in (Kind.NORM, Kind.DEPTHWISE)
        broken = len(widths) > 1 or (single and features > 1) or shape[reading.axis] % count > 0
        kind, channels = (Kind.OPAQUE, channels) if broken else (kind, count)
    elif any(features > 1 for _, features in widths) and kind not in (Kind.WRITE, Kind.ROUTE, Kind.CONSTANT):
        kind = Kind.OPAQUE
    features = shape[reading.axis] // channels if shape else 1
    module = str(node.target) if node.op == "call_module" else None
    ops[node.name] = Op(node.name, kind, inputs, node, module, channels, features, reading.axis, shape)


def _arguments(node: fx.Node) -> Iterable[fx.Node]:
    """The nodes it reads; a concatenation's in their order, also those that stand in it twice."""
    parts = node.args[0] if node.args else None
    if isinstance(parts, list | tuple) and all(isinstance(part, fx.Node) for part in parts):
        return [part for part in parts if isinstance(part, fx.Node)]
    return node.all_input_nodes


def _tensor(modules: Mapping[str, nn.Module], path: str) -> Tensor | None:
    """The parameter or buffer at that path."""
    owner, _, name = path.rpartition(".")
    found = getattr(modules[owner], name, None)
    return found if isinstance(found, Tensor) else None


def _seen_along(ops: dict[str, Op], name: str, axis: int | None) -> str:
    """The tensor, or where it is read along another axis than its channels': a stand-in for it that keeps everything."""
    op = ops[name]
    if axis is None or op.kind is Kind.PARAMETER or op.axis == axis:
        return name
    other, width = f"{name}@{axis}", op.shape[axis] if axis < len(op.shape) else 1
    ops[other] = Op(other, Kind.OPAQUE, (name,), op.node, None, width, 1, axis, op.shape)
    return other


def _exclusive(traced: Trace, owners: Mapping[int, int]) -> frozenset[str]:
    """Modules that may be replaced: called once, without hooks, sharing no parameter, read by nobody else."""
    calls = Counter(str(node.target) for node in traced.nodes if node.op == "call_module")
    read = {str(node.target).rpartition(".")[0] for node in traced.nodes if node.op == "get_attr"}
    return frozenset(
        path
        for path, count in calls.items()
        if count == 1
        and path not in read
        and all(owners[id(p)] == 1 for p in traced.modules[path].parameters())
        and not any(
            getattr(module, hooks)
            for module in traced.modules[path].modules()
            for hooks in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        )
    )


def _spaces(ops: Mapping[str, Op], chained: Mapping[str, str]) -> dict[str, int]:
    """Union-find over the tensors; returns each one's space."""
    parent = {name: name for name in ops}

    def find(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for op in ops.values():
        for source in op.inputs if op.kind in SAME_CHANNELS and op.name not in chained else ():
            parent[find(source)] = find(op.name)
    numbers = {root: k for k, root in enumerate(dict.fromkeys(find(name) for name in ops))}
    return {name: numbers[find(name)] for name in ops}


def _fixed(traced: Trace, ops: Mapping[str, Op]) -> set[str]:
    """Tensors that keep all channels: the network's output, what is not understood, and what that reads."""
    fixed = set()
    for op in ops.values():
        if op.kind in (Kind.OPAQUE, Kind.SOURCE):
            fixed.update([op.name, *op.inputs])
    for node in traced.nodes:
        if node.name not in ops and not harmless_reading(node, ops):
            fixed.update(n.name for n in node.all_input_nodes if n.name in ops)
    return fixed


def _ties(op: Op, ops: Mapping[str, Op], space: Mapping[str, int]) -> Iterable[Tie]:
    offset = 0
    for name in op.inputs:
        yield Tie(space[op.name], offset, space[name])
        offset += ops[name].channels
