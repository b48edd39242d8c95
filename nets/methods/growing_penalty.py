"""The growing L2 penalty of both GReg methods: one factor R a filter, added to the gradient and raised while training.

Source: Wang, Qin, Zhang, Fu, "Neural Pruning via Growing Regularization", ICLR 2021, by its authors' public code (MingSun-
Tse/Regularization-Pruning). Before each step grad(W) += R W, R one number for each filter W. Every K_u steps R grows; a layer
stops where its R passes the ceiling 1, or where the moving average (.9) of mean |kept| over mean |pruned| is at least 1000: in
GReg-2 its own, in GReg-1 that of every layer; then R is held until the phase ends and the filters are removed. Only filters are
penalised, not gamma and beta. Taken as given, for want of the paper's text: the moving average starts at the first ratio.
"""

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from nets.groups import ChannelGroups
from nets.methods.growing_schedule import Growth
from nets.methods.stepping import Stepping
from nets.structures.gradients import filter_columns, gradient_layer


def filter_scores(groups: ChannelGroups) -> dict[str, Tensor]:
    """Mean |w| of each filter."""
    return {
        layer.name: groups.rows(layer)[:, filter_columns(layer)].double().abs().mean(1).cpu() for layer in groups.layers
    }


@final
class Growing(Stepping):
    """targets: how many filters each layer loses. Without a pick_step the lowest scores of the present weights are chosen
    now."""

    def __init__(self, optimizer: Optimizer, groups: ChannelGroups, targets: Mapping[str, int], growth: Growth) -> None:
        super().__init__(optimizer, groups)
        self.growth = growth
        self.targets = {name: count for name, count in targets.items() if count > 0}
        self.layers = [layer for layer in groups.layers if layer.name in self.targets]
        self.filters = {layer.name: filter_columns(layer) for layer in self.layers}
        self.R = {layer.name: torch.zeros(layer.channels, dtype=torch.float64) for layer in self.layers}
        self.pruned = {layer.name: torch.zeros(layer.channels, dtype=torch.bool) for layer in self.layers}
        self.ratios: dict[str, float] = {}
        self.finished: list[str] = []
        self.picked = False
        if not growth.pick_step:
            self._pick()

    def before(self) -> None:
        if self.done % self.growth.every == 0:
            self._grow()
        for layer in self.layers:
            slopes = gradient_layer(layer)
            factors = self.R[layer.name].to(layer.parameters[0])[:, None] * self.filters[layer.name]
            pull = factors * self.groups.rows(layer)
            self.groups.write(slopes, self.groups.rows(slopes) + pull)

    def _pick(self) -> None:
        scores = filter_scores(self.groups)
        for name, count in self.targets.items():
            self.pruned[name][torch.argsort(scores[name], stable=True)[:count]] = True
        self.picked = True

    def _grow(self) -> None:
        growth = self.growth
        if not self.picked:
            for factor in self.R.values():
                factor += growth.pick_step
            if all(float(factor[0]) >= growth.pick_ceiling * (1 - 1e-9) for factor in self.R.values()):
                self._pick()
            return
        scores = filter_scores(self.groups)
        for name, factor in self.R.items():
            if name in self.finished:
                continue
            gone = self.pruned[name]
            factor[gone] += growth.step
            factor[~gone] = growth.kept
            now = float(scores[name][~gone].mean() / scores[name][gone].mean().clamp(min=1e-30))
            self.ratios[name] = growth.memory * self.ratios.get(name, now) + (1 - growth.memory) * now
            if float(factor[gone].max()) > growth.ceiling:
                self.finished.append(name)
        enough = [name for name in self.R if self.ratios.get(name, 0.0) >= growth.ratio]
        if growth.pick_step or len(enough) == len(self.R):
            self.finished = sorted({*self.finished, *enough})

    def tensors(self) -> dict[str, Tensor]:
        own = {f"R.{name}": factor for name, factor in self.R.items()}
        return {**own, **{f"pruned.{name}": gone for name, gone in self.pruned.items()}}

    def numbers(self) -> dict[str, Any]:
        return {"ratios": self.ratios, "finished": self.finished, "picked": self.picked}

    def take_numbers(self, numbers: dict[str, Any]) -> None:
        self.ratios, self.finished = dict(numbers["ratios"]), list(numbers["finished"])
        self.picked = bool(numbers["picked"])


def chosen_first(optimizer: Growing) -> dict[str, Tensor]:
    """Scores in which the chosen filters of a layer stand before all others of it."""
    scores = filter_scores(optimizer.groups)
    for name, gone in optimizer.pruned.items():
        scores[name] = torch.where(gone, scores[name], scores[name] + scores[name].max())
    return scores
