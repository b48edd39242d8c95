"""The projected relaxation by block coordinate descent on the Gram matrix: squared loss, cost a s^2 + b |s|, box, price.

One group after the other is all but minimised by proximal steps of its own curvature, in closed form up to a scalar
equation; after every few sweeps the iterates are extrapolated (Anderson acceleration of coordinate descent, Bertrand and
Massias, AISTATS 2021), which is taken where the value falls. Where spread curvature makes it crawl it stops, and
the first-order method with its Newton steps goes on from there (`projected.py`).
"""

import time
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from solvers.block_kernel import compile_sweeps, sweep_rounds
from solvers.extrapolate import MEMORY
from solvers.gram import MOST, form_gram
from solvers.problem import Array, LayerProblem

PATIENCE = 20  # rounds in which the gap has to halve
BREATH = 1e8  # multiplications between two looks at the clock, some hundredths of a second


@dataclass(frozen=True, eq=False)
@final
class Descended:
    """weights (d, o), relative duality gap as the sweeps see it, number of sweeps."""

    weights: Array
    gap: float
    sweeps: int


def can_descend_blocks(problem: LayerProblem) -> bool:
    """Squared loss, cost a s^2 + b |s| with a > 0, a price, no count, a Gram matrix that fits."""
    quadratic = problem.regulariser.quadratic
    if problem.loss != "squared" or problem.at_most is not None or quadratic is None:
        return False
    return quadratic[0] > 0 and problem.regulariser.price > 0 and problem.X.shape[1] <= MOST


def descend_blocks(
    problem: LayerProblem, states: NDArray[np.int8], *, tolerance: float, deadline: float = np.inf
) -> Descended:
    """Sweep from zero to the relative gap `tolerance`, until the gap no longer halves, or to `deadline` (perf_counter).

    states (p,) fix groups OFF, ON or leave them FREE.
    """
    compile_sweeps()
    regulariser, gram = problem.regulariser, form_gram(problem)
    assert regulariser.quadratic is not None
    (a, b), bound = regulariser.quadratic, np.inf if regulariser.bound is None else regulariser.bound
    declared = (problem.strength, a, b, regulariser.price, float(bound))
    weights, y = np.zeros_like(gram.B), np.zeros(problem.n_groups)
    rounds = int(np.clip(BREATH / (MEMORY * gram.G.size * weights.shape[1]), 1, PATIENCE))
    sweeps, relative, seen = 0, np.inf, [np.inf]
    while time.perf_counter() < deadline:
        made, primal, gap = sweep_rounds(
            gram.G, gram.B, gram.begins, gram.curvatures, gram.squares, declared, states, weights, y, tolerance, rounds
        )
        sweeps += made
        relative = gap / max(1e-12, abs(primal))
        seen.append(relative)
        back = -(-PATIENCE // rounds)
        if not relative > tolerance or (len(seen) > back and not relative < 0.5 * seen[-1 - back]):
            break
    if not np.all(np.isfinite(weights)):  # numbers at the ends of the floating-point range
        return Descended(np.zeros_like(weights), np.inf, sweeps)
    ordered = np.empty_like(weights)
    ordered[gram.order] = weights
    return Descended(ordered, relative, sweeps)
