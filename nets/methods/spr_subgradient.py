"""Structured Perspective Regularization as its authors train it: a subgradient of the penalty beside that of the loss, and a
threshold at the end.

Source, objective, box and price: `nets.methods.spr`, of which only the algorithm differs. Before each step
grad(w_g) += strength n_g / N * r'(w_g); nothing becomes exactly zero, and where the authors look for a threshold by two
bisections on training accuracy, here the budget takes the channels of the lowest zero threshold. Pieces of r', with a = max|w|
/ M, b = sqrt(alpha / (1 - alpha)) ||w||: 2 alpha w where b >= 1; 2 sqrt(alpha (1 - alpha)) w / ||w|| where a <= b < 1;
else 2 alpha M w / max|w| and, at one largest entry, sign(w_k) ((1 - alpha) / M - alpha M ||w||^2 / max|w|^2) more; 0 at 0.
Taken as given: after each step a weight outside its box, where r is infinite, is put back on the boundary. Without --strength,
lambda is what would shrink as many channels to zero over the phase as the budget takes, wherever they are: that quantile of the
zero thresholds times (1 - momentum) / (sum of the learning rates), as momentum makes a constant pull that much longer.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from nets.groups import ChannelGroups
from nets.methods.method import Method
from nets.methods.phase_plan import PhasePlan
from nets.methods.spr import SPR
from nets.methods.stepping import Stepping, momentum_of
from nets.structures.gradients import gradient_layer


def subgradient(w: Tensor, alpha: float, box: float) -> Tensor:
    """r'(w) for each row of (groups, n), |w| <= box; the formula above."""
    norm, largest = w.norm(dim=1, keepdim=True), w.abs().amax(1, keepdim=True)
    a, b = largest / box, math.sqrt(alpha / (1 - alpha)) * norm
    safe, high = norm.clamp(min=1e-30), largest.clamp(min=1e-30)
    conic = 2 * math.sqrt(alpha * (1 - alpha)) * w / safe
    peak = torch.zeros_like(w).scatter_(1, w.abs().argmax(1, keepdim=True), 1.0) * w.sign()
    boxed = 2 * alpha * box * w / high + peak * ((1 - alpha) / box - alpha * box * (norm / high) ** 2)
    slope = torch.where(b >= 1, 2 * alpha * w, torch.where(a <= b, conic, boxed))
    return torch.where(largest > 0, slope, 0.0)


@final
class Subgradient(Stepping):
    """prepared: a bound SPR regulariser for each layer; strength: a plain attribute that a schedule may change."""

    def __init__(
        self, optimizer: Optimizer, groups: ChannelGroups, prepared: Mapping[str, Any], strength: float
    ) -> None:
        super().__init__(optimizer, groups)
        self.prepared, self.strength = prepared, strength

    def before(self) -> None:
        for layer in self.groups.layers:
            parameters, slopes = self.prepared[layer.name].parameters, gradient_layer(layer)
            slope = subgradient(self.groups.rows(layer), parameters["alpha"], parameters["M"])
            weight = self.strength * layer.n / self.groups.total
            self.groups.write(slopes, self.groups.rows(slopes) + weight * slope)

    def after(self) -> None:
        for layer in self.groups.layers:
            box = self.prepared[layer.name].parameters["M"]
            self.groups.write(layer, self.groups.rows(layer).clamp(-box, box))


@final
@dataclass(frozen=True)
class SPRSubgradient(Method):
    """alpha, m_scale: as for spr."""

    alpha: float
    m_scale: float
    name: ClassVar[str] = "spr-subgradient"
    regularises: ClassVar[bool] = True
    weighs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        SPR(self.alpha, self.m_scale)  # refuses what spr refuses

    def prepare(self, trained: Mapping[str, Tensor]) -> Mapping[str, Any]:
        return SPR(self.alpha, self.m_scale).prepare(trained)

    def wrap(
        self, optimizer: Optimizer, groups: ChannelGroups, prepared: Mapping[str, Any], plan: PhasePlan
    ) -> Optimizer:
        strength = plan.strength
        if strength is None:
            plan.budgeted(self.name)
            scores = self.scores(groups, prepared)
            ascending = torch.cat(list(scores.values())).sort().values
            last = float(ascending[max(0, len(plan.choose(scores)) - 1)])
            strength = last * (1 - momentum_of(optimizer)) / plan.reach
        return Subgradient(optimizer, groups, prepared, strength)

    def scores(self, groups: ChannelGroups, prepared: Mapping[str, Any]) -> dict[str, Tensor]:
        """Zero thresholds, as for spr."""
        return SPR(self.alpha, self.m_scale).scores(groups, prepared)
