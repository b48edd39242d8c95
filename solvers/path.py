"""A path of exact solutions over the count of groups, the price of one, or the strength; each starts from its neighbour.

The points are solved in the order in which the optimum f rises: counts falling, prices and strengths rising. Then

    start       the split search (squared loss, cost a s^2) starts from the neighbour's support, trimmed to the count;
                any other problem is solved from scratch by its default backend
    bound       a smaller count and a higher price never lower f, nor the value of a dual point: the neighbour's
                certificate proves its bound here too (convex losses), which may answer a point without any search
    point       weights of either neighbour that are better here are taken over, so that what was interrupted
                still forms a path
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import sympy

from perspective import derive
from perspective.errors import InputError
from solvers.exact import solve_exact
from solvers.problem import LayerProblem
from solvers.result import Result, Status, relative_gap
from solvers.split.program import can_split
from solvers.split.search import solve_split

PRICE = "group_price"  # name of the parameter that takes the place of the block's own price
ANSWERED = "answered by the neighbour's point and certificate, without a search"


@dataclass(frozen=True, eq=False)
@final
class PathPoint:
    """The count, price or strength, and its result."""

    parameter: float
    result: Result


def solution_path(
    problem: LayerProblem,
    *,
    counts: Iterable[int] | None = None,
    prices: Iterable[float] | None = None,
    strengths: Iterable[float] | None = None,
    gap: float = 1e-4,
    time_limit: float = 60.0,
    strengthen: str | None = None,
) -> tuple[PathPoint, ...]:
    """Exact solutions for each count (at_most), price (of one group, in the objective's units: strength * price; the cost
    stays) or strength (multiplies cost and price); points come in the order given. Exactly one of the three.

    gap, strengthen: as in solve_exact. time_limit: seconds for each point; one that is stopped keeps its own status.
    InputError where a value makes no sense.
    """
    named = {"counts": counts, "prices": prices, "strengths": strengths}
    given = {name: values for name, values in named.items() if values is not None}
    if len(given) != 1:
        raise InputError(f"give exactly one of counts, prices and strengths, not {' and '.join(given) or 'none'}")
    ((name, listed),) = given.items()
    values = _read(name, listed)
    make: Callable[[Any], LayerProblem] = {"counts": with_count, "prices": with_price, "strengths": with_strength}[
        name
    ](problem)
    order = sorted(set(values), reverse=name == "counts")
    problems = [make(value) for value in order]  # every value is checked before the first is solved
    inherits = name != "strengths" and problem.measure.convex
    results: list[Result] = []
    for here in problems:
        results.append(_solve(here, results[-1] if results else None, inherits, gap, time_limit, strengthen))
    for i in reversed(range(len(order) - 1)):
        results[i] = adopt_point(problems[i], results[i], results[i + 1], gap)
    found = dict(zip(order, results, strict=True))
    return tuple(PathPoint(value, found[value]) for value in values)


def with_count(problem: LayerProblem) -> Callable[[int], LayerProblem]:
    """k -> the problem with at most k groups."""
    return lambda count: replace(problem, at_most=count)


def with_strength(problem: LayerProblem) -> Callable[[float], LayerProblem]:
    """strength -> the problem with it: the cost of the weights and the price of a group rise together."""
    return lambda strength: replace(problem, strength=strength)


def with_price(problem: LayerProblem) -> Callable[[float], LayerProblem]:
    """price -> the problem with strength * price = that, cost and strength unchanged: derived once, bound for each."""
    regulariser = problem.regulariser
    block, name = regulariser.regularizer.block, PRICE
    while name in block.parameters or name == block.weight.name:
        name += "_"
    priced = derive(replace(block, price=sympy.Symbol(name, positive=True)))
    kept = {other: regulariser.parameters[other] for other in priced.block.parameters if other != name}

    def make(price: float) -> LayerProblem:
        return replace(problem, regulariser=priced.bind(**kept, **{name: price / problem.strength}))

    return make


def adopt_point(problem: LayerProblem, result: Result, other: Result, gap: float) -> Result:
    """The result with the other's weights, and what is noted of them, where they are better here; its bound stays."""
    value = np.inf if other.weights is None else problem.objective(other.weights)
    if not value < result.objective:
        return result
    assert other.weights is not None
    kept = problem.kept(other.weights)
    return _judge(replace(result, objective=value, weights=other.weights, indicators=kept, notes=_notes(other)), gap)


def adopt_bound(problem: LayerProblem, result: Result, easier: Result, gap: float) -> Result:
    """The result with the bound and the certificate of a problem that lies below this one, where they are better."""
    if easier.certificate is None or not easier.lower_bound > result.lower_bound:
        return result
    bound = min(easier.lower_bound, result.objective)
    return _judge(replace(result, lower_bound=bound, certificate=easier.certificate), gap)


def _notes(result: Result) -> tuple[str, ...]:
    """Notes on the weights."""
    return tuple(note for note in result.notes if note != ANSWERED)


def _judge(result: Result, gap: float) -> Result:
    """Status OPTIMAL where the gap is reached after all."""
    reached = relative_gap(result.objective, result.lower_bound) <= gap
    return replace(result, status=Status.OPTIMAL if reached else result.status)


def _solve(
    problem: LayerProblem,
    easier: Result | None,
    inherits: bool,
    gap: float,
    time_limit: float,
    strengthen: str | None,
) -> Result:
    if easier is None or easier.weights is None:
        return solve_exact(problem, gap, time_limit, strengthen=strengthen)
    value = problem.objective(easier.weights)
    if inherits and relative_gap(value, easier.lower_bound) <= gap:
        line = (0.0, value, easier.lower_bound)
        notes = (*_notes(easier), ANSWERED)
        return replace(
            easier, status=Status.OPTIMAL, objective=value, seconds=0.0, nodes=0, history=(line,), notes=notes
        )
    if can_split(problem):
        result = solve_split(problem, gap, time_limit, strengthen or "blocks", (problem.kept(easier.weights),))
    else:
        result = solve_exact(problem, gap, time_limit, strengthen=strengthen)
    result = adopt_point(problem, result, easier, gap)
    return adopt_bound(problem, result, easier, gap) if inherits else result


def _read(name: str, listed: Any) -> list[Any]:
    """The values as a list: whole numbers for counts, else positive numbers."""
    if isinstance(listed, str) or not isinstance(listed, Iterable):
        raise InputError(f"{name} must be a sequence of numbers, not {listed!r}")
    values = list(listed)
    if not values:
        raise InputError(f"{name} is empty; give at least one value")
    if name == "counts":
        whole = [isinstance(k, int | np.integer) and not isinstance(k, bool | np.bool_) for k in values]
        if not all(whole):
            raise InputError(f"counts must be whole numbers of groups, not {values[whole.index(False)]!r}")
        return [int(k) for k in values]
    for value in values:
        number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and value > 0):
            raise InputError(f"{name} must be positive and finite numbers, not {value!r}")
    return [float(value) for value in values]
