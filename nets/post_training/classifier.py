"""The classifier of a pruned network, fitted anew to the dense network's scores: its inputs are not what they were."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, fx, nn

from nets.post_training.reconstruct import fit_columns, gather_rows, read_fit, write_fit
from nets.post_training.stream import Stream


def refit_classifier(dense: nn.Module, pruned: nn.Module, images: Tensor, nodes: Sequence[fx.Node]) -> None:
    """Least squares for the Linear layer that gives the network's answers (batch, classes), in `pruned`, if there is such a layer
    and it has a bias; nodes: the operations of both networks."""
    end = next(node for node in reversed(nodes) if node.op == "output").args[0]
    if not isinstance(end, fx.Node) or end.op != "call_module":
        return
    layer = pruned.get_submodule(str(end.target))
    if not isinstance(layer, nn.Linear) or layer.bias is None:
        return
    truth = torch.cat([scores for (scores,) in Stream(dense, nodes, images).look([end])])
    inputs = torch.cat([read for (read,) in Stream(pruned, nodes, images).look([end.all_input_nodes[0]])])
    if truth.ndim != 2:
        return
    rows, trained = gather_rows(inputs), read_fit(layer, None)
    every = np.ones(len(trained.weights), dtype=bool)
    write_fit(layer, None, fit_columns(rows, truth, trained, every), rows)
