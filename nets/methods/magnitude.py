"""The plain baseline: the channels of smallest norm (Euclidean, or the sum of absolute values) go first, in every layer the
same share of them (--allocation price compares the norms of all layers instead).

Source of the l1 form: Li and others, "Pruning Filters for Efficient ConvNets", ICLR 2017: score sum |w| of a filter; here bias,
gamma and beta count too, as they go with it. The paper's text was not at hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

from torch import Tensor

from nets.groups import ChannelGroups
from nets.methods.method import Method


@final
@dataclass(frozen=True)
class Magnitude(Method):
    """norm: "l1" or "l2". Score of a channel: its norm; there is no regularised phase."""

    norm: Literal["l1", "l2"] = "l2"
    name: ClassVar[str] = "magnitude"
    regularises: ClassVar[bool] = False

    def scores(self, groups: ChannelGroups, prepared: Mapping[str, Any]) -> dict[str, Tensor]:
        order = {"l1": 1, "l2": 2}[self.norm]
        return {layer.name: groups.rows(layer).double().norm(order, dim=1).cpu() for layer in groups.layers}
