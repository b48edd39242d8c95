"""The weakest baseline: channels go in a random order, the same share of every layer. No paper's method, nothing is
taken as given; score: a uniform number."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from nets.datasets.batches import epoch_generator
from nets.groups import ChannelGroups
from nets.methods.method import Method


@final
@dataclass(frozen=True)
class Random(Method):
    """seed: the run's; the same seed gives the same channels, whatever the weights."""

    seed: int = 0
    name: ClassVar[str] = "random"
    regularises: ClassVar[bool] = False

    def scores(self, groups: ChannelGroups, prepared: Mapping[str, Any]) -> dict[str, Tensor]:
        """Uniform in (0, 1], each layer by a generator of its own."""
        scores = {}
        for layer in groups.layers:
            generator = epoch_generator(self.seed, f"random {layer.name}", 0)
            drawn = 1.0 - torch.rand(layer.channels, generator=generator, dtype=torch.float64)
            scores[layer.name] = torch.where(groups.alive(layer).cpu(), drawn, 0.0)
        return scores
