"""The published JSON objects of `perspective verify` and `solve`."""

import sys
from collections.abc import Sequence
from typing import Any

from perspective.errors import CheckFailed
from solvers.chain import BoundChain
from solvers.declared import Declared
from solvers.result import Result

MOST_POINTS = 200  # of a history in JSON


def chain_json(chain: BoundChain, declared: Declared) -> dict[str, Any]:
    """The published JSON object of a chain; `bound_chain` has checked its certificate."""
    return {
        "big_m": chain.big_m,
        "cone": chain.cone,
        "projected": chain.projected,
        "exact": chain.exact,
        "lower_bound": chain.lower_bound,
        "gap_closed": chain.gap_closed,
        "status": str(chain.status),
        "indicators": list(chain.indicators),
        "seconds": chain.seconds,
        "certificate_holds": True,
        "parameters": dict(declared.parameters),
    }


def result_json(result: Result, declared: Declared) -> dict[str, Any]:
    """The published JSON object of an exact solve; CheckFailed where the solver gave no point."""
    if result.indicators is None or result.certificate is None:
        raise CheckFailed(f"{result.backend} gave no answer: {result.status}")
    try:
        result.certificate.check(declared.problem)
        holds = True
    except CheckFailed as error:
        print(f"perspective: {error}", file=sys.stderr)
        holds = False
    return {
        "status": str(result.status),
        "objective": result.objective,
        "lower_bound": result.lower_bound,
        "gap": result.gap,
        "indicators": [int(y) for y in result.indicators],
        "seconds": result.seconds,
        "nodes": result.nodes,
        "backend": result.backend,
        "certificate_holds": holds,
        "notes": list(result.notes),
        "history": thin_history(result),
        "parameters": dict(declared.parameters),
    }


def thin_history(result: Result) -> list[list[float | None]]:
    """[seconds, incumbent, lower bound] over time, at most 200 points, the last one the final values.

    A side that is not known yet (infinite) is null.
    """
    points: Sequence[tuple[float, float, float]] = result.history
    every = -(-len(points) // (MOST_POINTS - 1)) if points else 1
    final = (result.seconds, result.objective, result.lower_bound)
    return [[_finite(number) for number in point] for point in [*points[::every], final]]


def _finite(value: float) -> float | None:
    return float(value) if abs(value) < float("inf") else None
