"""From the flags of the command line to a problem: the declared cost, its numbers, and defaults that are said aloud."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from perspective import IndicatorBlock, declare, derive
from perspective.declaration import read_settings
from perspective.errors import InputError
from solvers.box import weight_bound
from solvers.problem import LayerProblem, Regulariser

ALPHA, BOX_SCALE = 0.5, 3.0


@dataclass(frozen=True, eq=False)
@final
class Declaration:
    """cost, price and bound as text; `settings`: name=value for their parameters; strength > 0; loss and at_most as in
    LayerProblem."""

    cost: str
    price: str
    bound: str | None
    settings: Sequence[str]
    strength: float
    loss: str = "squared"
    at_most: int | None = None


@dataclass(frozen=True, eq=False)
@final
class Declared:
    """The problem; the numbers of all parameters; the names of those that were chosen here, not given."""

    problem: LayerProblem
    parameters: Mapping[str, float]
    chosen: tuple[str, ...]


def declare_problem(inputs: Any, targets: Any, groups: Any, declaration: Declaration) -> Declared:
    """Bind the declaration to a layer. alpha is 0.5 unless given; M is three times the largest ridge weight for the squared
    loss, and for any other loss the largest weight that a point no worse than W = 0 can have.

    InputError for a malformed setting or a parameter that has no default and was not given.
    """
    block, numbers, chosen = read_declaration(declaration)

    def problem(regulariser: Regulariser) -> LayerProblem:
        return LayerProblem(
            inputs,
            targets,
            groups,
            regulariser,
            declaration.strength,
            loss=declaration.loss,
            at_most=declaration.at_most,
        )

    if "M" in block.parameters and "M" not in numbers:
        # the data are checked by a problem whose box does not matter yet
        trial = problem(derive(block).bind(**{**numbers, "M": 1.0}))
        if declaration.loss == "squared":
            ridge = declaration.strength * numbers.get("alpha", ALPHA)
            numbers["M"] = BOX_SCALE * _largest_ridge_weight(trial, ridge)
        else:
            free = problem(derive(replace(block, bound=None)).bind(**numbers))
            nothing = np.zeros((free.X.shape[1], free.targets2d.shape[1]))
            numbers["M"] = weight_bound(free, free.objective(nothing)) or 1.0
        chosen.append("M")
    return Declared(problem(derive(block).bind(**numbers)), numbers, tuple(chosen))


def read_declaration(declaration: Declaration) -> tuple[IndicatorBlock, dict[str, float], list[str]]:
    """The block, its parameters' numbers but for an M to be chosen, and the names chosen here; InputError as above."""
    block = declare(declaration.cost, price=declaration.price, bound=declaration.bound)
    numbers, chosen = read_settings(declaration.settings), []
    if "alpha" in block.parameters and "alpha" not in numbers:
        numbers["alpha"] = ALPHA
        chosen.append("alpha")
    for name in block.parameters:
        if name not in numbers and name != "M":
            raise InputError(f"parameter {name} has no value; add --set {name}=NUMBER")
    return block, numbers, chosen


def _largest_ridge_weight(problem: LayerProblem, ridge: float) -> float:
    X, d = problem.X, problem.X.shape[1]
    weights = np.linalg.lstsq(
        np.vstack([X, np.sqrt(ridge) * np.eye(d)]),
        np.vstack([problem.targets2d, np.zeros((d, problem.targets2d.shape[1]))]),
        rcond=None,
    )[0]
    return float(np.max(np.abs(weights))) or 1.0
