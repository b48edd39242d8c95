"""What GReg-1 and GReg-2 share: as many filters of each layer as the budget would take, chosen by mean |w| and pushed to zero."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.optim import Optimizer

from nets.groups import ChannelGroups
from nets.methods.growing_penalty import Growing, chosen_first, filter_scores
from nets.methods.growing_schedule import scaled_growth
from nets.methods.method import Method
from nets.methods.phase_plan import PhasePlan
from nets.methods.stepping import momentum_of


class GrowingMethod(Method):
    """Abstract. picks: are the filters chosen after a penalty on all of them, or at the start? A budget says how much."""

    regularises: ClassVar[bool] = True
    picks: ClassVar[bool]

    def wrap(
        self, optimizer: Optimizer, groups: ChannelGroups, prepared: Mapping[str, Any], plan: PhasePlan
    ) -> Optimizer:
        plan.budgeted(self.name)
        growth = scaled_growth(plan, momentum_of(optimizer), picks=self.picks)
        return Growing(optimizer, groups, plan.counts(filter_scores(groups)), growth)

    def scores(self, groups: ChannelGroups, prepared: Mapping[str, Any]) -> dict[str, Tensor]:
        """Mean |w| of each filter."""
        return filter_scores(groups)

    def conclude(
        self, optimizer: Optimizer | None, groups: ChannelGroups, prepared: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """The chosen filters first."""
        return chosen_first(optimizer) if isinstance(optimizer, Growing) else filter_scores(groups)
