"""Groups of any size without a network around them: filters, vectors beside them, and columns that are gathered."""

import numpy as np
import torch
from torch import nn

from nets.groups import ChannelGroups
from nets.structures.slices import Layer, Span


def ragged(sizes, channels=5, dtype=torch.float64, seed=0, gathered=True):
    """One layer a size (n >= 3: filter, gamma and beta), and one of columns whose group owns two columns out of order."""
    rng = np.random.default_rng(seed)

    def numbers(*shape):
        return nn.Parameter(torch.from_numpy(rng.normal(size=shape) * 10 ** rng.uniform(-2, 0.5)).to(dtype))

    layers = []
    for number, n in enumerate(sizes):
        spans = (numbers(channels, n - 2), numbers(channels), numbers(channels)) if n > 2 else (numbers(channels, n),)
        layers.append(Layer(f"layer{number}", None, tuple(map(Span, spans)), channels, (f"layer{number}",)))
    if gathered:
        index = torch.from_numpy(rng.permutation(2 * channels).reshape(channels, 2))
        span = Span(numbers(3, 2 * channels + 1), 1, index)
        layers.append(Layer("columns", None, (span,), channels, ("columns",)))
    return ChannelGroups(tuple(layers))
