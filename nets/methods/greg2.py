"""GReg-2: a penalty that grows on all filters alike shows which of them matter; then the lowest are pushed to zero.

Source: `nets.methods.growing_penalty` (scaled to a run's length: `growing_schedule`). R grows by 1e-5 on all filters up to
1e-2: filters on which the loss depends resist, the others shrink. Then the lowest scores (mean |w| of the present weights)
are chosen, as many of each layer as the budget would take; their R grows by 1e-4 to 1, that of the kept ones is -1e-4. The
paper's text was not at hand: all of it is the public code's.
"""

from dataclasses import dataclass
from typing import ClassVar, final

from nets.methods.growing_method import GrowingMethod


@final
@dataclass(frozen=True)
class GReg2(GrowingMethod):
    """No parameters."""

    name: ClassVar[str] = "greg2"
    picks: ClassVar[bool] = True
