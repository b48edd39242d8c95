"""GReg-1: choose the filters once, on the network the phase starts from, and push them to zero by an L2 penalty that grows.

Source: `nets.methods.growing_penalty` (scaled to a run's length: `growing_schedule`). Score: mean |w| of a filter. How many
filters a layer loses is what the budget would take in proportion from every layer (the paper gives a ratio to each stage,
and leaves the last convolution of a block, shortcuts and the first convolution alone: --exclude says such things). The paper
prunes a trained network at learning rate 1e-3, and fine-tunes at 1e-2. The paper's text was not at hand: all of it is the
public code's.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from nets.methods.growing_method import GrowingMethod


@final
@dataclass(frozen=True)
class GReg1(GrowingMethod):
    """No parameters."""

    name: ClassVar[str] = "greg1"
    picks: ClassVar[bool] = False
