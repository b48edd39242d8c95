"""The exact solution by the backend that was asked for; backends are never switched silently."""

import math

from perspective.errors import InputError
from solvers.problem import LayerProblem
from solvers.result import Result

BACKENDS = ("branch", "highs", "scip", "enumerate")
STRENGTHENINGS = ("none", "uniform", "sdp", "blocks")
DEFAULT = {"squared": "branch", "logistic": "branch", "absolute": "highs", "hinge": "highs", "relu": "highs"}


def solve_exact(
    problem: LayerProblem,
    gap: float = 1e-4,
    time_limit: float = 60.0,
    backend: str | None = None,
    strengthen: str | None = None,
) -> Result:
    """Solve the mixed-integer program to a relative gap, or until time_limit seconds.

    backend: "branch" (own branch and bound, certified), "highs" (perspective cuts in HiGHS), "scip" (SCIP, an extra) or
    "enumerate" (<= 12 groups). None: "branch" for the squared and the logistic loss, else "highs".
    strengthen: "none", "uniform", "sdp" or "blocks", for "branch" with the squared loss; None: what that backend finds best.
    A limit, or a solver's failure, shows in `status`; InputError where the request itself makes no sense.
    """
    if backend is None:
        backend = DEFAULT[problem.loss]
    if backend not in BACKENDS:
        raise InputError(f"unknown backend {backend!r}; valid ones: {', '.join(BACKENDS)}")
    if not (math.isfinite(gap) and 1e-8 <= gap < 1):
        raise InputError(f"gap must be between 1e-8 and 1, not {gap}")
    if math.isnan(time_limit) or time_limit <= 0:
        raise InputError(f"time_limit must be a positive number of seconds, not {time_limit}")
    time_limit = min(time_limit, float(10 * 365 * 86400))
    if strengthen not in (None, *STRENGTHENINGS):
        raise InputError(f"unknown strengthening {strengthen!r}; valid ones: {', '.join(STRENGTHENINGS)}")
    if strengthen not in (None, "none") and (backend != "branch" or problem.loss != "squared"):
        raise InputError(f"strengthen={strengthen!r} needs backend='branch' and the squared loss; leave strengthen out")
    # imported here, so that no backend asks for another one's solver
    if problem.loss == "relu":
        return _solve_relu(problem, gap, time_limit, backend)
    if backend == "branch":
        return _solve_branch(problem, gap, time_limit, strengthen)
    if backend == "highs":
        from solvers.cuts import solve_highs

        return solve_highs(problem, gap, time_limit)
    if backend == "scip":
        from solvers.scip import solve_scip

        return solve_scip(problem, gap, time_limit)
    from solvers.enumerate import solve_enumerate

    return solve_enumerate(problem, gap, time_limit)


def _solve_branch(problem: LayerProblem, gap: float, time_limit: float, strengthen: str | None) -> Result:
    """The search made for the squared loss, or the one for any convex loss and count (`tree.py`)."""
    from solvers.split.program import can_split

    if problem.loss == "squared" and (problem.at_most is None or can_split(problem)):
        from solvers.branch import solve_branch

        return solve_branch(problem, gap, time_limit, strengthen)
    if strengthen not in (None, "none"):
        raise InputError("strengthening needs a cost a*s**2 where a count of groups is held; leave strengthen out")
    from solvers.tree import solve_tree

    return solve_tree(problem, gap, time_limit)


def _solve_relu(problem: LayerProblem, gap: float, time_limit: float, backend: str) -> Result:
    if backend == "highs":
        from solvers.relu.solve import solve_relu

        return solve_relu(problem, gap, time_limit)
    if backend == "enumerate":
        from solvers.relu.solve import enumerate_relu

        return enumerate_relu(problem, gap, time_limit)
    if backend == "branch":
        from solvers.relu.branch import solve_relu_branch

        return solve_relu_branch(problem, gap, time_limit)
    raise InputError(f"the relu loss is not convex, backend {backend!r} cannot take it; use 'highs' or 'branch'")
