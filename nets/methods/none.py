"""No pruning: ordinary training. The run folder can be pruned later with `perspective prune RUN`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import Tensor

from nets.groups import ChannelGroups
from nets.methods.method import Method
from perspective.errors import InputError


@final
@dataclass(frozen=True)
class NoPruning(Method):
    """Trains the dense network only; asking it for scores is an error."""

    name: ClassVar[str] = "none"
    regularises: ClassVar[bool] = False
    prunes: ClassVar[bool] = False

    def scores(self, groups: ChannelGroups, prepared: Mapping[str, Any]) -> dict[str, Tensor]:
        raise InputError("method none prunes nothing; choose another --method for a budget")
