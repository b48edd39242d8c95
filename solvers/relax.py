"""A relaxation by its name: from the weak to the tight, the last two equal."""

import math

from perspective.errors import InputError
from solvers.problem import LayerProblem
from solvers.result import Result

KINDS = ("big_m", "cone", "projected")


def solve_relaxation(problem: LayerProblem, kind: str = "projected", time_limit: float = 60.0) -> Result:
    """Solve one relaxation; Result with a dual certificate of its own value.

    "big_m": y >= max|w|/M; "cone": the perspective as second-order cones (Clarabel); "projected": own first-order method.
    time_limit: seconds, > 0, for "projected"; the two conic programs end by their solver's own iteration limit.
    """
    if math.isnan(time_limit) or time_limit <= 0:
        raise InputError(f"time_limit must be a positive number of seconds, not {time_limit}")
    if kind == "big_m":
        from solvers.big_m import solve_big_m

        return solve_big_m(problem)
    if kind == "cone":
        from solvers.cone import solve_cone

        return solve_cone(problem)
    if kind == "projected":
        from solvers.projected import solve_projected

        return solve_projected(problem, time_limit=time_limit)
    raise InputError(f"unknown relaxation {kind!r}; valid ones: {', '.join(KINDS)}")
