"""The learning rate of every step of a phase: a warm-up, then half a cosine, a constant, or steps.

Stateless on purpose: a resumed run computes the same numbers, and the shrinkage of a phase, sum of lr over its
steps, is known before it starts.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, final

from perspective.errors import InputError

Shape = Literal["cosine", "constant", "steps"]
SHAPES: tuple[Shape, ...] = ("cosine", "constant", "steps")
END = 0.01  # of a cosine, as a share of its start
STEPS_AT, STEPS_BY = (0.5, 0.75, 0.9), 0.1  # shares of the phase, as in the ResNet paper and the SPR authors' code


@final
@dataclass(frozen=True)
class Schedule:
    """lr: rate at the start; shape: how it falls; warmup: share of the phase, [0, 1), in which it rises linearly to lr.

    steps_at, steps_by  of shape "steps": shares of the phase (behind the warm-up) at which the rate is multiplied by steps_by
    begins, ends        the piece of the whole curve that the phase goes through, shares of it: phases that follow each other
                        can share one curve
    """

    lr: float
    shape: Shape = "cosine"
    warmup: float = 0.0
    steps_at: tuple[float, ...] = STEPS_AT
    steps_by: float = STEPS_BY
    begins: float = 0.0
    ends: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf:
            raise InputError(f"the learning rate is {self.lr}; it must be positive and finite")
        if self.shape not in SHAPES:
            raise InputError(f"unknown schedule {self.shape!r}; choose one of {', '.join(SHAPES)}")
        if not 0 <= self.warmup < 1:
            raise InputError(f"the warm-up takes {self.warmup:g} of the phase; it must be at least 0 and less than 1")
        if not self.steps_at or not all(a < b for a, b in pairwise((0.0, *self.steps_at, 1.0))):
            raise InputError(f"the rate falls at {self.steps_at} of the phase; give rising shares between 0 and 1")
        if not 0 < self.steps_by < 1:
            raise InputError(f"a step multiplies the rate by {self.steps_by:g}; give a number between 0 and 1")
        if not 0 <= self.begins < self.ends <= 1:
            raise InputError(
                f"a phase goes from {self.begins:g} to {self.ends:g} of a schedule; give rising shares in [0, 1]"
            )

    def rate(self, step: int, steps: int) -> float:
        """The rate at step 0 .. steps - 1 of a phase of that many steps."""
        whole = steps / (self.ends - self.begins)
        place, rising = step + self.begins * whole, round(self.warmup * whole)
        if place < rising:
            return self.lr * (place + 1) / (rising + 1)
        done = (place - rising) / (whole - rising)
        if self.shape == "constant":
            return self.lr
        if self.shape == "steps":
            return self.lr * self.steps_by ** sum(done >= at for at in self.steps_at)
        return self.lr * (END + (1 - END) * (1 + math.cos(math.pi * done)) / 2)

    def total(self, first: int, last: int, steps: int) -> float:
        """Sum of the rates of the steps first .. last - 1: with a strength of 1, how far the prox can shrink in them."""
        return math.fsum(self.rate(step, steps) for step in range(first, last))


def parse_schedule(text: str, lr: float, warmup: float = 0.0, flag: str = "--schedule") -> Schedule:
    """ "cosine", "constant", "steps", "steps=0.5/0.75" (x 0.1 at these shares of the phase), "steps=0.5/0.75:0.2" (x 0.2).
    flag: where it was said; that of the fine-tuning also takes "continue", which is no shape (nets/settings.py)."""
    shape, steps, rest = text.partition("=")
    choices = SHAPES if flag == "--schedule" else (*SHAPES, "continue")
    if shape not in SHAPES or (steps and shape != "steps"):
        raise InputError(
            f"unknown {flag} {text!r}; choose one of {', '.join(choices)}, or for example steps=0.5/0.75:0.2"
        )
    if not steps:
        return Schedule(lr, shape, warmup)
    shares, _, factor = rest.partition(":")
    try:
        at, by = tuple(map(float, shares.split("/"))), float(factor) if factor else STEPS_BY
    except ValueError:
        raise InputError(
            f"{flag} {text!r} is not steps=SHARE/SHARE/...:FACTOR, for example steps=0.5/0.75:0.2"
        ) from None
    return Schedule(lr, shape, warmup, at, by)


def linear_growth(schedule: Schedule, epoch: int, epochs: int) -> float:
    """The factor on lambda in epoch 0 .. epochs - 1: proportional to epoch + 1, with the same total shrinkage over the phase
    (sum of rate * factor) as a factor of 1."""
    rates = [schedule.rate(e, epochs) for e in range(epochs)]
    return (epoch + 1) * math.fsum(rates) / math.fsum(rate * (e + 1) for e, rate in enumerate(rates))
