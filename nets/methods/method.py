"""What a pruning method says to a run: few questions, asked in this order. A new method is one file and one line in `ALL`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from nets.gauge import Gauge
from nets.groups import ChannelGroups
from nets.methods.phase_plan import PhasePlan

Network = tuple[nn.Module, ChannelGroups]


class Method(ABC):
    """Abstract. `name` is what --method takes; the other class variables say what a run may expect of it.

    regularises   is there a phase of training under it before removal?
    weighs        is its penalty multiplied by --strength?
    follows       its optimizer is a `Proximal`, whose prices may follow a budget epoch by epoch
    makes_zeros   does it leave channels at zero by itself? The others need a budget, which takes the lowest scores
    allocation    how its scores compare between layers unless the run says: "even" (ranks in each layer) or "price" (as they are)
    calibrates    prunes by calibration images, without training and without scores
    """

    name: ClassVar[str]
    regularises: ClassVar[bool]
    prunes: ClassVar[bool] = True
    weighs: ClassVar[bool] = False
    follows: ClassVar[bool] = False
    makes_zeros: ClassVar[bool] = False
    allocation: ClassVar[Literal["even", "price"]] = "even"
    calibrates: ClassVar[bool] = False

    def refuse_unfit(self, model: nn.Module, groups: ChannelGroups, gauge: Gauge | None) -> None:
        """InputError, in one sentence, where the method's idea does not apply to this network or budget; asked before any
        training, of a network of the right shape. gauge: None without a budget."""
        return None

    def prepare(self, trained: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """What the method needs for each layer, from the rows (channels, n) of the ordinarily trained network: nothing."""
        return {}

    def wrap(
        self, optimizer: Optimizer, groups: ChannelGroups, prepared: Mapping[str, Any], plan: PhasePlan
    ) -> Optimizer:
        """The optimizer of the regularised phase, with all that the method does at its steps (`nets.methods.stepping`): the
        plain one, for a method without such a phase. Called before the network has moved, also in a resumed run, which puts the
        optimizer's state and the network's weights back afterwards."""
        return optimizer

    @abstractmethod
    def scores(self, groups: ChannelGroups, prepared: Mapping[str, Any]) -> dict[str, Tensor]:
        """Per layer (channels,), float64 on the CPU: the lower, the sooner a budget takes the channel; zero
        channels score 0."""

    def conclude(
        self, optimizer: Optimizer | None, groups: ChannelGroups, prepared: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Called once before the budget takes its channels: may write the network's final weights; returns the scores to go by.
        optimizer: the regularised phase's, None where there was none."""
        return self.scores(groups, prepared)

    def findings(self, dense: Network, masked: Network, example: Tensor) -> dict[str, Any]:
        """JSON facts for result.json, from the dense network and the one whose channels have just been zeroed: none.
        Networks with their groups, and example images (batch, ...), on the CPU."""
        return {}
