"""What one site reads and should answer, sampled from the dense and the pruned network at the same places."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor, fx, nn

from nets.certification.layer_rows import sample_rows
from nets.post_training.reconstruct import Rows, gather_rows
from nets.post_training.sites import Layer, Site
from nets.post_training.stream import Stream


@final
@dataclass(frozen=True, eq=False)
class Samples:
    """rows of the layer's inputs in the pruned network; targets (n, outputs) for its answers; added (n, outputs): what is added
    to them before the ReLU behind, or None; rectified: is there such a ReLU?"""

    rows: Rows
    targets: Tensor
    added: Tensor | None
    rectified: bool


def sample_writer(layer: Layer, dense: Stream, pruned: Stream, positions: int, seed: Sequence[int]) -> Samples:
    """The dense network's answers of a layer, as targets for the same layer in the pruned network."""
    module = dict(pruned.model.named_modules())[layer.name]
    wanted = zip(dense.look([layer.exit]), pruned.look([layer.entry]), strict=True)
    inputs, targets = [], []
    for batch, ((answers,), (read,)) in enumerate(wanted):
        inputs.append(_inputs(module, read, positions, (*seed, batch)))
        targets.append(_values(module, answers, positions, (*seed, batch)))
    return Samples(gather_rows(torch.cat(inputs)), torch.cat(targets), None, layer.rectified)


def sample_reader(
    site: Site, dense: Stream, pruned: Stream, positions: int, seed: Sequence[int], whole: bool
) -> Samples:
    """The inputs of a site's reader in the pruned network, and what it should answer.

    whole: the dense sum less what the pruned network adds, so that the reader also makes good what went wrong before it; else
    the dense reader's own answer.
    """
    module = dict(pruned.model.named_modules())[site.reader.name]
    whole = whole and site.other is not None
    if not whole:
        samples = sample_writer(site.reader, dense, pruned, positions, seed)
        return Samples(samples.rows, samples.targets, None, site.rectified and site.total is None)
    assert site.other is not None
    inputs, targets, added = [], [], []
    wanted = zip(dense.look([site.answer]), pruned.look([site.reader.entry, site.other]), strict=True)
    for batch, ((answers,), (read, other)) in enumerate(wanted):
        inputs.append(_inputs(module, read, positions, (*seed, batch)))
        added.append(_values(module, other, positions, (*seed, batch)))
        targets.append(_values(module, answers, positions, (*seed, batch)) - added[-1])
    return Samples(gather_rows(torch.cat(inputs)), torch.cat(targets), torch.cat(added), site.rectified)


def channel_columns(module: nn.Module, channels: int) -> np.ndarray:
    """(d,) the input channel of each column of a layer's rows."""
    width = module.weight[0].numel()
    return np.repeat(np.arange(channels), width // channels)


def positions_of(module: nn.Module, stream: Stream, node: fx.Node) -> int:
    """Numbers a channel has in this tensor, which the layer `module` has written, for one image."""
    shape = next(iter(stream.look([node], 1)))[0].shape
    return int(np.prod(shape[1:-1] if isinstance(module, nn.Linear) else shape[2:]))


def _inputs(module: nn.Module, values: Tensor, positions: int, seed: Sequence[int]) -> Tensor:
    return torch.from_numpy(sample_rows(module, values, positions, np.random.default_rng(seed))).to(values.dtype)


def _values(module: nn.Module, values: Tensor, positions: int, seed: Sequence[int]) -> Tensor:
    """The channels (n, outputs) of what `module` answers, at the positions that `_inputs` draws with this seed: the rows of a
    layer that reads one position. A Linear layer's channels are the last axis."""
    if values.ndim == 2:
        return values
    if isinstance(module, nn.Linear):
        return _inputs(nn.Linear(values.shape[-1], 1, device="meta"), values, positions, seed)
    return _inputs(nn.Conv2d(values.shape[1], 1, 1, device="meta"), values, positions, seed)
