"""What a pruning method says to a run: three questions, asked in this order. A new method is one file and one line
in `ALL`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.optim import Optimizer

from nets.groups import ChannelGroups


class Method(ABC):
    """Abstract. `name` is what --method takes; `regularises`: is there a phase of training under a penalty before
    removal?"""

    name: ClassVar[str]
    regularises: ClassVar[bool]
    prunes: ClassVar[bool] = True
    calibrates: ClassVar[bool] = False  # prunes by calibration images, without training and without scores

    def prepare(self, trained: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """What the method needs for each layer, from the rows (channels, n) of the ordinarily trained network: nothing."""
        return {}

    def wrap(
        self, optimizer: Optimizer, groups: ChannelGroups, prepared: Mapping[str, Any], strength: float
    ) -> Optimizer:
        """The optimizer of the regularised phase: the plain one, for a method without such a phase."""
        return optimizer

    @abstractmethod
    def scores(self, groups: ChannelGroups, prepared: Mapping[str, Any]) -> dict[str, Tensor]:
        """Per layer (channels,), float64 on the CPU: the lower, the sooner a budget takes the channel; zero
        channels score 0."""
