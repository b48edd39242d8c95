"""How far simple choices of channels are from the proven optimum: magnitude, greedy, and the solver's own incumbent.

Magnitude and greedy are nested choices, one for every count of channels. Under a price each takes the count that is best for
it; under a count, that count. Every choice is refitted by the solvers' own fit (box included) and valued by the problem.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from solvers.elimination import Nested, eliminate
from solvers.fit import fit_support
from solvers.layer_price import PricedLayer
from solvers.problem import Array
from solvers.reduced import reduce
from solvers.result import Result

SAME = 1e-9  # relative: two refits of the same channels differ by less
FIT_SECONDS = 30.0  # for one refit that needs the first-order method


@dataclass(frozen=True, eq=False)
@final
class Choice:
    """One choice of channels: kept (p,) bool, the program's objective, and error = ||X W - Y||^2 / ||Y||^2."""

    name: str
    kept: NDArray[np.bool_]
    objective: float
    error: float


def compare_choices(layer: PricedLayer, trained: Array, result: Result) -> tuple[Choice, ...]:
    """Magnitude (group norm of the trained weights (d, o)), greedy (backward elimination), and `result`'s incumbent.

    Where an incumbent is missing (the solver found no point) its entry is left out.
    """
    problem = layer.problem
    norms = np.sqrt(np.bincount(problem.labels, weights=np.sum(trained**2, axis=1), minlength=problem.n_groups))
    by_norm = eliminate(
        problem.X, problem.targets2d, problem.labels, layer.ridge, order=list(np.argsort(norms, kind="stable"))
    )
    reduced = reduce(problem)
    choices = []
    for name, path in (("magnitude", by_norm), ("greedy", layer.greedy)):
        point = fit_support(reduced, best_of(path, layer), time.perf_counter() + FIT_SECONDS)
        choices.append(_valued(name, layer, point.weights))
    if result.weights is not None:
        choices.append(_valued("incumbent", layer, problem.matrix(result.weights)))
    return tuple(choices)


def best_choice(choices: Sequence[Choice]) -> Choice:
    """The choice with the least objective; the last one (the solver's) where that is a matter of rounding."""
    least = min(choice.objective for choice in choices)
    return next(c for c in reversed(choices) if c.objective <= least + SAME * abs(least))


def best_of(path: Nested, layer: PricedLayer) -> NDArray[np.bool_]:
    """The nested choice that is best under the layer's price, or the one of the count asked for."""
    if layer.at_most:
        assert layer.count is not None
        return path.support(layer.count)
    return path.support(int(np.argmin(path.values + layer.charge * np.arange(len(path.values)))))


def choice_json(choice: Choice, best: float, lower_bound: float) -> dict[str, Any]:
    """The JSON object of a choice; distances are relative to its own objective: above the best point known, and above the
    proven bound (so much of it, at most, could be saved)."""
    scale = max(1e-12, abs(choice.objective))
    return {
        "kept": int(np.count_nonzero(choice.kept)),
        "channels": [int(j) for j in np.flatnonzero(choice.kept)],
        "objective": choice.objective,
        "output_error": choice.error,
        "above_best": max(0.0, (choice.objective - best) / scale),
        "above_bound": max(0.0, (choice.objective - lower_bound) / scale),
    }


def _valued(name: str, layer: PricedLayer, weights: Array) -> Choice:
    problem = layer.problem
    error = problem.loss_value(weights) / float(np.sum(problem.targets2d**2))
    return Choice(name, problem.kept(weights), problem.objective(weights), error)
