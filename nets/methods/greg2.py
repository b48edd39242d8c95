"""GReg-2: a penalty that grows on all filters alike shows which of them matter; then the lowest are pushed to zero.

Source and the schedule's scaling: `nets.methods.growing_penalty`. R grows by 1e-5 on all filters up to 1e-2: filters on which the
loss depends resist, the others shrink. Then the lowest scores (mean |w| of the present weights) are chosen, as many of each layer
as the budget would take; their R grows by 1e-4 to 1, that of the kept ones is -1e-4.
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
class GReg2(Method):
    """No parameters; a budget says how much."""

    name: ClassVar[str] = "greg2"
    regularises: ClassVar[bool] = True

    def wrap(
        self, optimizer: Optimizer, groups: ChannelGroups, prepared: Mapping[str, Any], plan: PhasePlan
    ) -> Optimizer:
        plan.budgeted(self.name)
        growth = scaled_growth(plan, momentum_of(optimizer), picks=True)
        return Growing(optimizer, groups, plan.counts(filter_scores(groups)), growth)

    def scores(self, groups: ChannelGroups, prepared: Mapping[str, Any]) -> dict[str, Tensor]:
        """Mean |w| of each filter."""
        return filter_scores(groups)

    def conclude(
        self, optimizer: Optimizer | None, groups: ChannelGroups, prepared: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """The chosen filters first."""
        return chosen_first(optimizer) if isinstance(optimizer, Growing) else filter_scores(groups)
