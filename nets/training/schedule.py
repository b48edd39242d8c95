"""The learning rate of every step of a phase: a warm-up, then half a cosine, a constant, or steps.

Stateless on purpose: a resumed run computes the same numbers, and the shrinkage of a phase, sum of lr over its
steps, is known before it starts.
"""

import math
from dataclasses import dataclass
from typing import Literal, final

from perspective.errors import InputError

Shape = Literal["cosine", "constant", "steps"]
SHAPES: tuple[Shape, ...] = ("cosine", "constant", "steps")
END = 0.01  # of a cosine, as a share of its start
STEPS_AT, STEPS_BY = (0.5, 0.75, 0.9), 0.1  # shares of the phase, as in the ResNet paper and the SPR authors' code


@final
@dataclass(frozen=True)
class Schedule:
    """lr: rate at the start; shape: how it falls; warmup: share of the phase, [0, 1), in which it rises linearly to lr."""

    lr: float
    shape: Shape = "cosine"
    warmup: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf:
            raise InputError(f"the learning rate is {self.lr}; it must be positive and finite")
        if self.shape not in SHAPES:
            raise InputError(f"unknown schedule {self.shape!r}; choose one of {', '.join(SHAPES)}")
        if not 0 <= self.warmup < 1:
            raise InputError(f"the warm-up takes {self.warmup:g} of the phase; it must be at least 0 and less than 1")

    def rate(self, step: int, steps: int) -> float:
        """The rate at step 0 .. steps - 1 of a phase of that many steps."""
        rising = round(self.warmup * steps)
        if step < rising:
            return self.lr * (step + 1) / (rising + 1)
        done = (step - rising) / (steps - rising)
        if self.shape == "constant":
            return self.lr
        if self.shape == "steps":
            return self.lr * STEPS_BY ** sum(done >= at for at in STEPS_AT)
        return self.lr * (END + (1 - END) * (1 + math.cos(math.pi * done)) / 2)

    def total(self, first: int, last: int, steps: int) -> float:
        """Sum of the rates of the steps first .. last - 1: with a strength of 1, how far the prox can shrink in them."""
        return math.fsum(self.rate(step, steps) for step in range(first, last))


def linear_growth(schedule: Schedule, epoch: int, epochs: int) -> float:
    """The factor on lambda in epoch 0 .. epochs - 1: proportional to epoch + 1, with the same total shrinkage over the phase
    (sum of rate * factor) as a factor of 1."""
    rates = [schedule.rate(e, epochs) for e in range(epochs)]
    return (epoch + 1) * math.fsum(rates) / math.fsum(rate * (e + 1) for e, rate in enumerate(rates))
