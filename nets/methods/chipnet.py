"""ChipNet: a gate on every batch-normalised channel, driven to 0 or 1 by a crispness loss and to the budget by a budget loss.

Source: Tiwari, Bamba, Chavan, Gupta, "ChipNet: Budget-Aware Pruning with Heaviside Continuous Approximations", ICLR 2021, by
its public code (transmuteAI/ChipNet). A gate psi multiplies the output of its channel's batch normalisation by z:

    z~ = 1 / (1 + exp(-beta psi)),    z = 1 - exp(-gamma z~) + z~ exp(-gamma),    s = 1 / (1 + exp(-kappa (z - 1/2)))
    loss = cross-entropy + 10 mean (z - z~)^2 + 30 (V(s) - V0)^2       V: `nets.methods.chipnet_budget`, V0: the budget

psi starts at .01 U(0, 1); beta is 1, + .02 an epoch, at most 6; gamma 2, times sqrt 2, at most 256; kappa 10, + 5, at most 60;
gates are trained by AdamW, learning rate 1e-3, no weight decay. The paper's run has 20 epochs of 1,406 steps: here the curves
are those of epoch 20 e / epochs, which in a run of fewer epochs moves from step to step (in jumps the gates would not follow),
and a shorter run's gates get a rate that is larger in proportion, so that they can move as far (at most 0.1 a step).

The gates themselves: `nets.methods.chipnet_gates`; weights are trained by the run's own optimizer (the paper: AdamW).
At the end every gate becomes 0 or 1: the budget takes the lowest z of the whole network, counted by physical removal (the
paper: a quantile of z, or a bisection with orphaned blocks removed), and the others become 1. The paper keeps the epoch whose
thresholded network is best on validation; here it is the last. Masks: RUN/masks.json, for method masks.
Taken as given, for want of the paper's text: every number above is the public code's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nets.gauge import Gauge
from nets.groups import ChannelGroups
from nets.methods.bn_scale import gammas
from nets.methods.chipnet_budget import count_layers, spent
from nets.methods.chipnet_gates import Gated
from nets.methods.method import Method
from nets.methods.phase_plan import PhasePlan
from perspective.errors import InputError


@final
@dataclass(frozen=True)
class ChipNet(Method):
    """seed: of the gates' start, the run's."""

    seed: int = 0
    name: ClassVar[str] = "chipnet"
    regularises: ClassVar[bool] = True
    allocation: ClassVar[Literal["even", "price"]] = "price"

    def refuse_unfit(self, model: nn.Module, groups: ChannelGroups, gauge: Gauge | None) -> None:
        if any(len(layer.members) > 1 for layer in groups.layers):
            raise InputError("method chipnet has one gate for each channel of a normalisation; leave --coupled out")
        gammas(groups, model, self.name)
        if gauge is not None:
            ones = {layer.name: torch.ones(layer.channels) for layer in groups.layers}
            spent(gauge.budget.kind, count_layers(model, groups, gauge.example), ones)

    def wrap(
        self, optimizer: Optimizer, groups: ChannelGroups, prepared: Mapping[str, Any], plan: PhasePlan
    ) -> Optimizer:
        gauge = plan.budgeted(self.name)
        self.refuse_unfit(plan.model, groups, gauge)
        return Gated(optimizer, groups, plan, count_layers(plan.model, groups, gauge.example), self.seed)

    def scores(self, groups: ChannelGroups, prepared: Mapping[str, Any]) -> dict[str, Tensor]:
        raise InputError("method chipnet scores channels by gates it has trained; it needs its training phase")

    def conclude(
        self, optimizer: Optimizer | None, groups: ChannelGroups, prepared: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """All gates opened; the order is that of z, for which z~ of float64 psi stands, as z may round to 1."""
        if not isinstance(optimizer, Gated):
            return self.scores(groups, prepared)
        optimizer.open()
        return {name: torch.sigmoid(psi.detach().double()).cpu() for name, psi in optimizer.psi.items()}
