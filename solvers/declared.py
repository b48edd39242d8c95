"""From the flags of the command line to a problem: the declared cost, its numbers, and defaults that are said aloud."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from perspective import declare, derive
from perspective.declaration import read_settings
from perspective.errors import InputError
from solvers.problem import LayerProblem

ALPHA, BOX_SCALE = 0.5, 3.0


@dataclass(frozen=True, eq=False)
@final
class Declaration:
    """cost, price and bound as text; `settings`: name=value for their parameters; strength > 0."""

    cost: str
    price: str
    bound: str | None
    settings: Sequence[str]
    strength: float


@dataclass(frozen=True, eq=False)
@final
class Declared:
    """The problem; the numbers of all parameters; the names of those that were chosen here, not given."""

    problem: LayerProblem
    parameters: Mapping[str, float]
    chosen: tuple[str, ...]


def declare_problem(inputs: Any, targets: Any, groups: Any, declaration: Declaration) -> Declared:
    """Bind the declaration to a layer. alpha is 0.5 unless given, M three times the largest ridge weight.

    InputError for a malformed setting or a parameter that has no default and was not given.
    """
    block = declare(declaration.cost, price=declaration.price, bound=declaration.bound)
    given = read_settings(declaration.settings)
    numbers, chosen = dict(given), []
    if "alpha" in block.parameters and "alpha" not in given:
        numbers["alpha"] = ALPHA
        chosen.append("alpha")
    for name in block.parameters:
        if name not in numbers and name != "M":
            raise InputError(f"parameter {name} has no value; add --set {name}=NUMBER")
    regulariser = derive(block)
    if "M" in block.parameters and "M" not in given:
        # the data are checked by a problem whose box does not matter yet
        trial = LayerProblem(inputs, targets, groups, regulariser.bind(**{**numbers, "M": 1.0}), declaration.strength)
        numbers["M"] = BOX_SCALE * _largest_ridge_weight(trial, declaration.strength * numbers.get("alpha", ALPHA))
        chosen.append("M")
    bound = regulariser.bind(**numbers)
    return Declared(LayerProblem(inputs, targets, groups, bound, declaration.strength), numbers, tuple(chosen))


def _largest_ridge_weight(problem: LayerProblem, ridge: float) -> float:
    X, d = problem.X, problem.X.shape[1]
    weights = np.linalg.lstsq(
        np.vstack([X, np.sqrt(ridge) * np.eye(d)]),
        np.vstack([problem.targets2d, np.zeros((d, problem.targets2d.shape[1]))]),
        rcond=None,
    )[0]
    return float(np.max(np.abs(weights))) or 1.0
