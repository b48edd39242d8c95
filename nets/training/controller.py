"""Drive the price of the channels so that a budget's channels are exactly zero when the regularised phase ends.

A group dies when the shrinkage it has met, sum over steps of lr * price * n_g / N, reaches its zero threshold T_g (the T
with sum_k phi*(w_k / T) = c). So before each epoch the thresholds of the present weights predict the price of each layer:
that which brings its next few channels to zero within the epoch. Two things follow from what a zero means in a network
with batch normalisation (filter, gamma and beta all zero get no gradient, so a dead channel stays dead):

- the channels that the budget keeps, at present, have their indicator fixed at one (price 0): they are not shrunk, and no
  layer can lose more than it was meant to; the choice is made anew before every epoch, until the ramp ends;
- the phase ends with a stretch without any price, in which the survivors recover; where the fine-tuning goes on with the same
  curve of the learning rate, it takes that stretch over, on the smaller network.

Where the regulariser is flat (a group that reaches the box has y = 1 and is hardly pulled), many small steps shrink less than
one large prox would; a channel that outlives its epoch's plan gets its indicator fixed at zero when the next one begins.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from nets.groups import ChannelGroups
from nets.training.schedule import Schedule

RAMP = 0.6  # share of the phase in which channels die


@final
@dataclass(frozen=True)
class Controller:
    """targets: how many channels of each layer are to be zero; regularisers: bound, by layer name; steps: of an epoch."""

    groups: ChannelGroups
    regularisers: Mapping[str, Any]
    targets: Mapping[str, int]
    schedule: Schedule
    epochs: int
    steps: int

    def planned(self, target: int, epoch: int) -> int:
        """Channels of `target` that are to be zero when epoch 0, 1, ... ends (0 before the first)."""
        return math.ceil(target * min(1.0, (epoch + 1) / max(1.0, RAMP * self.epochs)))

    def prices(self, epoch: int) -> dict[str, Tensor]:
        """By layer (channels,) float64: each channel's lambda in the epoch that begins now; infinity holds a zero."""
        whole = self.epochs * self.steps
        reach = self.schedule.total(epoch * self.steps, (epoch + 1) * self.steps, whole)
        prices = {}
        for layer in self.groups.layers:
            rows = self.groups.rows(layer).double().cpu().numpy()
            alive = self.groups.alive(layer).cpu().numpy()
            thresholds = np.where(alive, self.regularisers[layer.name].zero_threshold(rows), 0.0)
            target = self.targets.get(layer.name, 0)
            order = np.argsort(thresholds, kind="stable")
            price = np.zeros(layer.channels)
            last = thresholds[order[self.planned(target, epoch) - 1]] if target else 0.0
            price[order[:target]] = last * self.groups.total / (layer.n * reach)
            price[~alive] = math.inf
            price[order[: self.planned(target, epoch - 1)]] = math.inf
            prices[layer.name] = torch.from_numpy(price)
        return prices
