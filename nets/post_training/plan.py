"""What a pruning after training is asked to do, checked before any work starts."""

import math
from dataclasses import dataclass
from typing import Literal, final

from nets.budget import Budget
from perspective.errors import InputError

CHOICES = ("exact", "greedy", "magnitude", "bn-scale")
ALLOCATIONS = ("measured", "even")
REPAIRS = ("stream", "layer", "none")


@final
@dataclass(frozen=True)
class Plan:
    """How to prune.

    choice      of the channels: by the exact solver, backward elimination, filter norm or normalisation scale
    allocation  "measured": counts of least total divergence; "even": the same share of every layer
    repair      "stream": writers and readers are refitted to the dense network's stream; "layer": each reader to its own dense
                answers; "none": trained weights stay
    positions   of each image a layer is fitted at; probe: images the allocation is measured on
    gap, time_limit (seconds a layer): of the exact solver; seed: of the positions
    excluded    patterns of layers that keep all the channels they write
    """

    budget: Budget
    choice: Literal["exact", "greedy", "magnitude", "bn-scale"] = "exact"
    allocation: Literal["measured", "even"] = "measured"
    repair: Literal["stream", "layer", "none"] = "stream"
    positions: int = 40
    probe: int = 500
    gap: float = 1e-3
    time_limit: float = 30.0
    seed: int = 0
    excluded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("positions", 1), ("probe", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        for name, choices in (("choice", CHOICES), ("allocation", ALLOCATIONS), ("repair", REPAIRS)):
            if getattr(self, name) not in choices:
                raise InputError(f"unknown {name} {getattr(self, name)!r}; choose one of {', '.join(choices)}")
        if not 1e-8 <= self.gap < 1:
            raise InputError(f"gap is {self.gap}; it must be between 1e-8 and 1")
        if not 0 < self.time_limit < math.inf:
            raise InputError(f"time_limit is {self.time_limit}; it must be a positive number of seconds")
