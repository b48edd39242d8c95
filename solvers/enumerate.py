"""All supports of a small problem: the truth the other backends are measured by.

2^p convex problems, one for each choice of indicators that a count allows, each solved to a duality gap of 1e-10.
"""

import time
from typing import NamedTuple

import numpy as np

from perspective.errors import InputError
from solvers.fit import fit_support
from solvers.problem import LayerProblem
from solvers.projected import Point
from solvers.prove import prove_point
from solvers.reduced import Reduced, reduce
from solvers.result import Result, Status

MOST_GROUPS = 12


class Enumeration(NamedTuple):
    """The best support's fit, the least dual value of any support visited, and how many were."""

    best: Point
    lower_bound: float
    visited: int
    complete: bool


def enumerate_supports(reduced: Reduced, time_limit: float) -> Enumeration:
    """Fit every support, or as many as time allows (at least one). InputError for more than 12 groups."""
    begin, p = time.perf_counter(), reduced.problem.n_groups
    if p > MOST_GROUPS:
        raise InputError(f"enumeration visits 2^{p} supports, at most 2^{MOST_GROUPS} allowed; use backend='branch'")
    best, lower_bound, visited = None, np.inf, 0
    most = p if reduced.problem.at_most is None else reduced.problem.at_most
    codes = [code for code in range(2**p) if code.bit_count() <= most]
    for code in codes:
        point = fit_support(reduced, ((code >> np.arange(p)) & 1).astype(bool))
        lower_bound, visited = min(lower_bound, point.dual), visited + 1
        if best is None or point.primal < best.primal:
            best = point
        if time.perf_counter() - begin > time_limit:
            break
    assert best is not None
    return Enumeration(best, lower_bound, visited, visited == len(codes))


def solve_enumerate(problem: LayerProblem, gap: float, time_limit: float) -> Result:
    """The best of all supports. lower_bound: the least dual value of any support's convex problem.

    Where time runs out the bound is the certificate's. The certificate is the leaf tree of a branch and bound that
    starts from the answer found; it proves the relative gap asked for, not the last digit that enumeration knows.
    """
    begin, reduced = time.perf_counter(), reduce(problem)
    found = enumerate_supports(reduced, time_limit)
    left = time_limit - (time.perf_counter() - begin)
    weights = found.best.weights
    certificate = prove_point(reduced, weights, gap, max(left, 0.0))
    objective = problem.objective(weights)
    return Result(
        status=Status.OPTIMAL if found.complete else Status.TIME_LIMIT,
        objective=objective,
        lower_bound=min(found.lower_bound, objective) if found.complete else certificate.bound,
        weights=problem.shaped(weights),
        indicators=problem.kept(weights),
        seconds=time.perf_counter() - begin,
        nodes=found.visited,
        backend="enumerate",
        certificate=certificate,
    )
