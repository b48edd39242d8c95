"""The plain baseline: in every layer the channels of smallest Euclidean norm go first, all layers in proportion."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from nets.groups import ChannelGroups
from nets.methods.method import Method


@final
@dataclass(frozen=True)
class Magnitude(Method):
    """Score of a channel: its rank by norm within its layer, as a share of the layer; there is no regularised phase."""

    name: ClassVar[str] = "magnitude"
    regularises: ClassVar[bool] = False

    def scores(self, groups: ChannelGroups, prepared: Mapping[str, Any]) -> dict[str, Tensor]:
        scores = {}
        for layer in groups.layers:
            norms = groups.rows(layer).double().norm(dim=1).cpu()
            ranks = torch.empty_like(norms)
            ranks[torch.argsort(norms, stable=True)] = torch.arange(1, layer.channels + 1, dtype=torch.float64)
            scores[layer.name] = torch.where(norms > 0, ranks / layer.channels, 0.0)
        return scores
