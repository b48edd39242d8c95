"""What a budget counts, and the share of it that a smaller network needs."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import final

from torch import Tensor, nn

from nets.latency import compare_latency
from nets.measure import Measurement, measure
from perspective.errors import InputError

KINDS = ("macs", "params", "channels", "volume", "latency")


@final
@dataclass(frozen=True)
class Budget:
    """Keep at most `share` of the dense network's `kind` (one of KINDS)."""

    kind: str
    share: float


def parse_budget(text: str) -> Budget:
    """ "macs=0.5" -> Budget("macs", 0.5)."""
    kind, _, number = text.partition("=")
    try:
        share = float(number)
    except ValueError:
        share = math.nan
    if kind not in KINDS or not 0 < share < 1:
        raise InputError(
            f"--budget {text!r} is not KIND=SHARE with KIND one of {', '.join(KINDS)} and 0 < SHARE < 1; "
            f"half is {kind if kind in KINDS else 'macs'}=0.5"
        )
    return Budget(kind, share)


@final
@dataclass(frozen=True)
class Gauge:
    """A budget and the dense network it is a share of. example: a normalised batch (the one timed, for latency); counts: the
    dense network's, where `dense` is not it any more."""

    budget: Budget
    dense: nn.Module
    example: Tensor
    counts: Measurement | None = None

    @cached_property
    def whole(self) -> Measurement:
        """The dense network's counts."""
        return measure(self.dense, self.example) if self.counts is None else self.counts

    def share(self, smaller: nn.Module) -> float:
        """Count (or median seconds, both networks timed in turn) of `smaller` over that of the dense network."""
        if self.budget.kind == "latency":
            return compare_latency(self.dense, smaller, self.example).ratio.median
        return getattr(measure(smaller, self.example), self.budget.kind) / getattr(self.whole, self.budget.kind)
