"""The exact solution by the backend that was asked for; backends are never switched silently."""

import math

from perspective.errors import InputError
from solvers.problem import LayerProblem
from solvers.result import Result

BACKENDS = ("branch", "highs", "enumerate")


def solve_exact(problem: LayerProblem, gap: float = 1e-4, time_limit: float = 60.0, backend: str = "branch") -> Result:
    """Solve the mixed-integer program to a relative gap, or until time_limit seconds.

    backend: "branch" (own branch and bound, certified), "highs" (perspective cuts in HiGHS) or "enumerate" (<= 12 groups).
    A limit, or a solver's failure, shows in `status`; InputError where the request itself makes no sense.
    """
    if backend == "scip":
        raise InputError(f"backend 'scip' is not there yet; valid ones: {', '.join(BACKENDS)}")
    if backend not in BACKENDS:
        raise InputError(f"unknown backend {backend!r}; valid ones: {', '.join(BACKENDS)}")
    if not (math.isfinite(gap) and 1e-8 <= gap < 1):
        raise InputError(f"gap must be between 1e-8 and 1, not {gap}")
    if math.isnan(time_limit) or time_limit <= 0:
        raise InputError(f"time_limit must be a positive number of seconds, not {time_limit}")
    time_limit = min(time_limit, float(10 * 365 * 86400))
    # imported here, so that no backend asks for another one's solver
    if backend == "branch":
        from solvers.branch import solve_branch

        return solve_branch(problem, gap, time_limit)
    if backend == "highs":
        from solvers.cuts import solve_highs

        return solve_highs(problem, gap, time_limit)
    from solvers.enumerate import solve_enumerate

    return solve_enumerate(problem, gap, time_limit)
