"""Sparsity-informed adaptive pruning: how much goes in each round follows from the PQ index of the weights; then rewind.

Source: Diao, Wang, Zhang, Yang, Ding, Tarokh, "Pruning Deep Neural Networks from a Sparsity Perspective", ICLR 2023, arXiv
2302.05601, by its public code. For d weights w and 0 < p < q, p <= 1:

    I = 1 - d^(1/q - 1/p) ||w||_p / ||w||_q                                 0: all equal; towards 1: few matter
    kept at least r = ceil(d (1 + eta)^(-q/(q-p)) (1 - I)^(qp/(q-p))),      pruned floor(d clip(gamma (1 - r/d), 0, .9)) smallest

Structured per filter here, where the paper prunes single weights: I and r are those of the weights of a layer's living
filters, and the same share of these filters goes, those of smallest norm. The phase is `rounds` equal rounds; after each but
the last the filters go, the weights that stay return to what they were when the phase began (the trained network's, after
`prune`; the paper: the initial ones) and momenta are forgotten. One learning-rate schedule runs over all rounds, where the
paper restarts it. Within a round the budget is never passed; what is missing after the last goes in proportion by norm.
Taken as given, for want of the paper's text: index, bound and rounds are the public code's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

from torch import Tensor
from torch.optim import Optimizer

from nets.budget import even, zero_channels
from nets.groups import ChannelGroups
from nets.methods.method import Method
from nets.methods.phase_plan import PhasePlan
from nets.methods.stepping import Stepping
from nets.structures.gradients import filter_columns
from perspective.errors import InputError

MOST = 0.9  # share that one round may prune


def pq_index(w: Tensor, p: float, q: float) -> float:
    """I of the numbers in w; 0 for a vector of zeros."""
    sizes = w.detach().double().abs().flatten()
    largest = float(sizes.max())
    if largest == 0:
        return 0.0
    sizes = sizes / largest  # powers neither overflow nor vanish
    means = [float(sizes.pow(order).mean()) ** (1 / order) for order in (p, q)]
    return 1.0 - means[0] / means[1]


def pruned_count(w: Tensor, p: float, q: float, eta: float, gamma: float, of: int | None = None) -> int:
    """How many of `of` things go whose weights are w (default: as many as w has numbers)."""
    d = w.numel()
    kept = math.ceil(d * (1 + eta) ** (-q / (q - p)) * (1 - pq_index(w, p, q)) ** (q * p / (q - p)) - 1e-9)
    share = min(MOST, max(0.0, gamma * (1 - kept / d)))
    return math.floor((d if of is None else of) * share + 1e-9)


@final
@dataclass(frozen=True)
class SAP(Method):
    """rounds >= 1; p, q, eta, gamma: of the index, as in the paper."""

    rounds: int = 5
    p: float = 0.5
    q: float = 1.0
    eta: float = 0.0
    gamma: float = 1.0
    name: ClassVar[str] = "sap"
    regularises: ClassVar[bool] = True
    allocation: ClassVar[Literal["even", "price"]] = "price"  # the scores are ranks already

    def __post_init__(self) -> None:
        if not (0 < self.p < self.q and self.p <= 1 and self.eta >= 0 and self.gamma > 0 and self.rounds >= 1):
            raise InputError("method sap wants 0 < p < q, p <= 1, eta >= 0, gamma > 0 and at least one round")

    def wrap(
        self, optimizer: Optimizer, groups: ChannelGroups, prepared: Mapping[str, Any], plan: PhasePlan
    ) -> Optimizer:
        plan.budgeted(self.name)
        return Rounds(optimizer, groups, self, plan)

    def scores(self, groups: ChannelGroups, prepared: Mapping[str, Any]) -> dict[str, Tensor]:
        """Ranks of the norms in each layer."""
        return even({layer.name: groups.rows(layer).double().norm(dim=1).cpu() for layer in groups.layers})

    def takes(self, groups: ChannelGroups) -> list[tuple[str, int]]:
        """What a round would prune, by the present weights."""
        taken = []
        for layer in groups.layers:
            rows, alive = groups.rows(layer), groups.alive(layer)
            living = int(alive.sum())
            if living:
                filters = rows[:, filter_columns(layer)][alive]
                count = pruned_count(filters, self.p, self.q, self.eta, self.gamma, living)
                norms = rows.double().norm(dim=1).masked_fill(~alive, math.inf)
                taken += [(layer.name, int(k)) for k in norms.cpu().argsort(stable=True)[:count]]
        return taken


@final
class Rounds(Stepping):
    """Channels that went stay at zero; `masks` holds 0 for them and 1 for the others."""

    def __init__(self, optimizer: Optimizer, groups: ChannelGroups, method: SAP, plan: PhasePlan) -> None:
        super().__init__(optimizer, groups)
        self.method, self.plan = method, plan
        self.ends = {round(k * plan.total / method.rounds) for k in range(1, method.rounds)}
        self.start = [(p, p.detach().clone()) for group in self.param_groups for p in group["params"]]
        self.masks = {layer.name: groups.alive(layer).to(layer.parameters[0].dtype) for layer in groups.layers}

    def before(self) -> None:
        return None

    def after(self) -> None:
        if self.done + 1 in self.ends:
            self._end_round()
        for layer in self.groups.layers:
            self.groups.write(layer, self.groups.rows(layer) * self.masks[layer.name][:, None])

    def _end_round(self) -> None:
        wanted = self.method.takes(self.groups)
        scores = {name: ranks + 2.0 * (ranks > 0) for name, ranks in self.method.scores(self.groups, {}).items()}
        for name, k in wanted:
            scores[name][k] -= 2.0  # before all others
        allowed = set(self.plan.choose(scores)) & set(wanted)
        if not allowed:
            return
        zero_channels(self.groups, sorted(allowed))
        self.masks = {x.name: self.groups.alive(x).to(x.parameters[0].dtype) for x in self.groups.layers}
        for parameter, value in self.start:
            parameter.copy_(value)
        self.inner.state.clear()

    def tensors(self) -> dict[str, Tensor]:
        return {f"mask.{name}": mask for name, mask in self.masks.items()}
