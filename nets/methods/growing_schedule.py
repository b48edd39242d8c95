"""How fast the growing L2 penalty of both GReg methods grows in a phase of some length.

Source of the numbers: `nets.methods.growing_penalty`.

Scaled to a run's length: the paper's numbers (K_u 10, 1e-4 an update, so 100,000 steps of growth, then 10,000 of holding) fix
which share of the phase each part takes; the increment is what reaches the ceiling in that share, updates come every 10 steps
or oftener so that there are at least 100 of them. Where the run is so short that the ceiling 1 would shrink a filter by less
than the ratio 1000 (sum of lr R / (1 - momentum) over the phase below log 1000; the paper's run has some 600), every R is
multiplied by what is missing.
"""

import math
from dataclasses import dataclass
from typing import final

from nets.methods.phase_plan import PhasePlan

RATIO = 1000.0
EVERY, UPDATES = 10, 100


@final
@dataclass(frozen=True)
class Growth:
    """every: steps between updates; step, ceiling: of R of the filters to prune; kept: R of the others; pick_step,
    pick_ceiling: of all filters before the choice (0: the choice is made at the start); ratio, memory: of the early stop."""

    every: int
    step: float
    ceiling: float
    kept: float = 0.0
    pick_step: float = 0.0
    pick_ceiling: float = 0.0
    ratio: float = RATIO
    memory: float = 0.9


def scaled_growth(plan: PhasePlan, momentum: float, picks: bool) -> Growth:
    """The paper's growth, shares kept: [1/12 to the choice,] 10 parts to the ceiling, 1 part of holding."""
    before = plan.total / 12 if picks else 0.0
    growing = plan.total * (10 / 12 if picks else 10 / 11)
    every = max(1, min(EVERY, int((before or growing) / UPDATES)))
    rates = [plan.schedule.rate(step, plan.total) for step in range(plan.total)]
    reached = sum(rate * min(1.0, max(0.0, step - before) / growing) for step, rate in enumerate(rates))
    scale = max(1.0, math.log(RATIO) * (1 - momentum) / reached)
    first, second = max(1, round(before / every)), max(1, round(growing / every))
    if not picks:
        return Growth(every, scale / second, scale)
    low = 1e-2 * scale
    return Growth(every, (scale - low) / second, scale, -1e-4 * scale, low / first, low)
