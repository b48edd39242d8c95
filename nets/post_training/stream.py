"""A traced network run piece by piece: its live tensors are kept between two operations, so that nothing is computed twice."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, final

import torch
from torch import Tensor, fx, nn

BATCH = 250  # images at a time


@final
class Stream:
    """All images, each batch stopped just before the same node (mutable). The network is run in evaluation mode, with the
    weights it has at that moment: what lies before the stop is not computed again when they change."""

    def __init__(self, model: nn.Module, nodes: Sequence[fx.Node], images: Tensor) -> None:
        self.model, self.nodes, self.at = model.eval(), list(nodes), 0
        self.place = {node: k for k, node in enumerate(self.nodes)}
        self.last = {node: max((self.place[u] for u in node.users), default=0) for node in self.nodes}
        source = next(node for node in self.nodes if node.op == "placeholder")
        starts = range(0, len(images), BATCH)
        self.alive: list[dict[fx.Node, Any]] = [{source: images[k : k + BATCH]} for k in starts]

    def advance(self, stop: fx.Node) -> None:
        """Run every batch up to, and without, `stop`; a node that is passed already changes nothing."""
        end = self.place[stop]
        if end > self.at:
            for values in self.alive:
                self._run(values, end, ())
            self.at = end

    def look(self, wanted: Sequence[fx.Node], batches: int | None = None) -> Iterator[tuple[Tensor, ...]]:
        """For each batch (or the first few) the values of `wanted`, run on copies: the stream itself stays where it is."""
        end = max(self.place[node] for node in wanted) + 1
        for values in self.alive[:batches]:
            ahead = {node: value.clone() if isinstance(value, Tensor) else value for node, value in values.items()}
            kept: dict[fx.Node, Tensor] = {node: ahead[node].clone() for node in wanted if node in ahead}
            self._run(ahead, end, (node for node in wanted if node not in kept), kept)
            yield tuple(kept[node] for node in wanted)

    def _run(
        self, values: dict[fx.Node, Any], end: int, wanted: Iterable[fx.Node], kept: dict[fx.Node, Tensor] | None = None
    ) -> None:
        runner = fx.Interpreter(self.model, garbage_collect_values=False, graph=self.nodes[0].graph)
        runner.env = values
        wanted = set(wanted)
        with torch.no_grad():
            for k in range(self.at, end):
                node = self.nodes[k]
                if node.op == "output" or node in values:
                    continue
                values[node] = runner.run_node(node)
                if kept is not None and node in wanted:
                    kept[node] = values[node].clone()  # a ReLU after this may work in place
                for read in node.all_input_nodes:
                    if self.last[read] <= k:
                        values.pop(read, None)
