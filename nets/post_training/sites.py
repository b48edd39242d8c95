"""Where channels can go one layer at a time: a writer, the internal channels, their one reader, and the addition behind it."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from nets.certification.calibration import prunable_layers
from nets.flow.graph import ChannelGraph, Writer, build_graph
from nets.flow.kinds import Kind
from nets.limits import is_excluded
from perspective.errors import InputError

RELUS = (F.relu, F.relu_, torch.relu, torch.relu_)


@final
@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution or linear layer and its normalisation. name, norm: paths in the network; node: the layer itself;
    entry: what it reads; exit: the last of the two; rectified: nothing but ReLUs read that."""

    name: str
    norm: str | None
    node: fx.Node
    entry: fx.Node
    exit: fx.Node
    rectified: bool


@final
@dataclass(frozen=True, eq=False)
class Site:
    """channels between `writer` and `reader`. total: the addition right behind the reader, or None; other: what is added there;
    rectified: nothing but ReLUs read the reader's answer (the sum, where there is one)."""

    channels: int
    writer: Layer
    reader: Layer
    total: fx.Node | None
    other: fx.Node | None
    rectified: bool

    @property
    def name(self) -> str:
        """The reader's path: the layer whose input channels are chosen."""
        return self.reader.name

    @property
    def answer(self) -> fx.Node:
        """The sum behind the reader, or the reader's own answer."""
        return self.reader.exit if self.total is None else self.total


def find_norm(modules: Mapping[str, nn.Module], layer: Layer) -> nn.Module | None:
    """The layer's normalisation, or None."""
    return None if layer.norm is None else modules[layer.norm]


def find_sites(
    model: nn.Module, example_inputs: Tensor, excluded: Sequence[str] = ()
) -> tuple[tuple[Site, ...], tuple[fx.Node, ...]]:
    """The sites in running order, and all operations of the network. excluded: patterns of layers that keep what they write.
    InputError where there is no site, or the network cannot be traced."""
    names = prunable_layers(model, example_inputs)
    graph = build_graph(copy.deepcopy(model).eval(), (example_inputs,))
    by_module = {str(graph.ops[w.layer].module): w for w in graph.writers}
    found = (_site(graph, by_module[name], channels) for name, channels in names.items())
    sites = tuple(site for site in found if _can_be_fitted(site, graph.modules))
    if not sites:
        raise InputError(
            "no layer of this network has input channels of its own that least squares could choose among (they are shared by "
            "an addition, or in groups); choose another method"
        )
    sites = tuple(site for site in sites if not is_excluded(site.writer.name, excluded))
    if not sites:
        raise InputError("--exclude leaves no layer whose channels layerwise could choose; exclude fewer")
    nodes = next(iter(graph.ops.values())).node.graph.nodes
    return sites, tuple(nodes)


def _can_be_fitted(site: Site, modules: Mapping[str, nn.Module]) -> bool:
    """Rows of a convolution in groups are not those of one least squares problem; a fit has a shift, which needs a place."""
    writer, reader = modules[site.writer.name], modules[site.reader.name]
    if any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in (writer, reader)):
        return False
    return site.reader.norm is not None or reader.bias is not None


def _site(graph: ChannelGraph, reader: Writer, channels: int) -> Site:
    space = graph.space[graph.ops[reader.layer].inputs[0]]
    writer = next(w for w in graph.writers if graph.space[w.end] == space)
    layer = _layer(graph, reader)
    users = list(layer.exit.users)
    total = other = None
    if len(users) == 1 and users[0].name in graph.ops and graph.ops[users[0].name].kind is Kind.ADD:
        sides = users[0].all_input_nodes
        rest = [node for node in sides if node is not layer.exit]
        if len(rest) == 1 and graph.ops[rest[0].name].channels == graph.ops[layer.exit.name].channels:
            total, other = users[0], rest[0]
    rectified = layer.rectified if total is None else _only_relus(list(total.users), graph)
    return Site(channels, _layer(graph, writer), layer, total, other, rectified)


def _layer(graph: ChannelGraph, writer: Writer) -> Layer:
    op, end = graph.ops[writer.layer], graph.ops[writer.end].node
    norm = None if writer.norm is None else str(graph.ops[writer.norm].module)
    return Layer(str(op.module), norm, op.node, graph.ops[op.inputs[0]].node, end, _only_relus(list(end.users), graph))


def _only_relus(users: Sequence[fx.Node], graph: ChannelGraph) -> bool:
    return bool(users) and all(
        (user.op == "call_module" and isinstance(graph.modules[str(user.target)], nn.ReLU))
        or (user.op == "call_function" and user.target in RELUS)
        or (user.op == "call_method" and user.target in ("relu", "relu_"))
        for user in users
    )
