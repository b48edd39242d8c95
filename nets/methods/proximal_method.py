"""What the methods with an exact prox share: the wrapped optimizer, and the saliency that their penalty gives a channel."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from nets.groups import ChannelGroups
from nets.methods.method import Method
from nets.methods.phase_plan import PhasePlan
from nets.optimizer import Implementation, Proximal


@dataclass(frozen=True, kw_only=True)
class ProximalMethod(Method):
    """Abstract: a subclass says in `prepare` which bound regulariser each layer has.

    implementation  of the prox, see `nets.optimizer.Proximal`
    """

    implementation: Implementation = "flat"

    regularises: ClassVar[bool] = True
    weighs: ClassVar[bool] = True
    follows: ClassVar[bool] = True
    makes_zeros: ClassVar[bool] = True

    def wrap(
        self, optimizer: Optimizer, groups: ChannelGroups, prepared: Mapping[str, Any], plan: PhasePlan
    ) -> Optimizer:
        """The optimizer's step, then the prox of every group."""
        return Proximal(optimizer, groups, prepared, plan.strength, self.implementation)

    def scores(self, groups: ChannelGroups, prepared: Mapping[str, Any]) -> dict[str, Tensor]:
        """T_g N / n_g: the accumulated lr * strength at which one prox alone would make the channel zero, where T_g is the T
        with sum_k phi*(w_k / T) = c."""
        scores = {}
        for layer in groups.layers:
            rows = groups.rows(layer).double().cpu().numpy()
            threshold = np.asarray(prepared[layer.name].zero_threshold(rows))
            scores[layer.name] = torch.from_numpy(threshold * groups.total / layer.n)
        return scores
