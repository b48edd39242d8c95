"""The plain baseline: the channels of smallest Euclidean norm go first, in every layer the same share of them
(--allocation price compares the norms of all layers instead)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import Tensor

from nets.groups import ChannelGroups
from nets.methods.method import Method


@final
@dataclass(frozen=True)
class Magnitude(Method):
    """Score of a channel: its norm; there is no regularised phase."""

    name: ClassVar[str] = "magnitude"
    regularises: ClassVar[bool] = False

    def scores(self, groups: ChannelGroups, prepared: Mapping[str, Any]) -> dict[str, Tensor]:
        return {layer.name: groups.rows(layer).double().norm(dim=1).cpu() for layer in groups.layers}
