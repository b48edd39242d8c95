"""GReg-1: choose the filters once, on the network the phase starts from, and push them to zero by an L2 penalty that grows.

Source and the schedule's scaling: `nets.methods.growing_penalty`. Score: mean |w| of a filter. How many filters a layer loses
is what the budget would take in proportion from every layer (the paper gives a ratio to each stage, and leaves the last
convolution of a block, shortcuts and the first convolution alone: --exclude says such things). The paper prunes a trained
network at learning rate 1e-3, and fine-tunes at 1e-2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from torch import Tensor
from torch.optim import Optimizer

from nets.groups import ChannelGroups
from nets.methods.growing_penalty import Growing, chosen_first, filter_scores, scaled_growth
from nets.methods.method import Method
from nets.methods.phase_plan import PhasePlan
from nets.methods.stepping import momentum_of


@final
@dataclass(frozen=True)
class GReg1(Method):
    """No parameters; a budget says how much."""

    name: ClassVar[str] = "greg1"
    regularises: ClassVar[bool] = True

    def wrap(
        self, optimizer: Optimizer, groups: ChannelGroups, prepared: Mapping[str, Any], plan: PhasePlan
    ) -> Optimizer:
        plan.budgeted(self.name)
        growth = scaled_growth(plan, momentum_of(optimizer), picks=False)
        return Growing(optimizer, groups, plan.counts(filter_scores(groups)), growth)

    def scores(self, groups: ChannelGroups, prepared: Mapping[str, Any]) -> dict[str, Tensor]:
        """Mean |w| of each filter."""
        return filter_scores(groups)

    def conclude(
        self, optimizer: Optimizer | None, groups: ChannelGroups, prepared: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """The chosen filters first."""
        return chosen_first(optimizer) if isinstance(optimizer, Growing) else filter_scores(groups)
