"""Walk torch-pruning's graph from one layer's outputs to all channels that it would cut with them.

The same closure as torch-pruning's own `get_pruning_group`, with two differences: it ends on graphs where a tensor meets a
shifted copy of itself (theirs runs forever), and it keeps a channel that is reached from several channels of the root.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from torch import nn

Ints = NDArray[np.int64]


@final
class Channel(NamedTuple):
    """Channel `idx` of the node where the walk stands, reached from channel `root_idx` of the root (torch-pruning's names)."""

    idx: int
    root_idx: int


def walk_channels(graph: Any, root: nn.Module, width: int, limit: int) -> Iterator[tuple[Any, str, Ints, Ints]]:
    """(node, "in" or "out", its channels, the root's channels, pair by pair) for all that is cut with root's outputs.

    A channel number of `limit` or more is handed on once and not followed: torch-pruning has lost count there.
    """
    start = graph.get_pruner_of_module(root).prune_out_channels
    seen: dict[tuple[Any, str], set[tuple[int, int]]] = {}
    stack = [(graph.module2node[root], start, [Channel(i, i) for i in range(width)])]
    while stack:
        node, cut, channels = stack.pop()
        known = seen.setdefault((node, cut.__name__), set())
        fresh = [c for c in channels if (c.idx, c.root_idx) not in known]
        if not fresh:
            continue
        known.update((c.idx, c.root_idx) for c in fresh)
        # where cutting inputs cuts outputs too (a norm, an addition), torch-pruning has one function for both
        side = "in" if cut.__name__ == "prune_in_channels" else "out"
        yield node, side, np.array([c.idx for c in fresh]), np.array([c.root_idx for c in fresh])
        inside = [c for c in fresh if c.idx < limit]
        for dependency in node.dependencies:
            if dependency.is_triggered_by(cut):
                mapped: Any = inside
                for mapping in dependency.index_mapping:
                    mapped = mapped if mapping is None else mapping(mapped)
                if mapped:
                    stack.append((dependency.target, dependency.handler, mapped))
