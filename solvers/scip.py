"""The exact program handed to SCIP, with SCIP's own dual bound; a second opinion that shares no search with ours.

What SCIP says is not taken on trust where it can be checked: of its answer only the chosen groups are kept, their weights
are fitted here and valued by the problem; our own dual of the relaxation is the certificate. SCIP's bound rests on its
floating-point arithmetic (tolerance FEASIBILITY times the gap asked for).
"""

import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.fit import fit_support
from solvers.problem import LayerProblem
from solvers.reduced import reduce
from solvers.relax import solve_relaxation
from solvers.result import Result, Status, no_result, relative_gap
from solvers.scip_model import ScipModel, build_scip

SHARE = 0.9  # of the gap asked for: the refit moves the value by SCIP's tolerance
FEASIBILITY = 1e-3  # SCIP's feasibility tolerance as a share of the gap; errors of all samples add up
FINEST, COARSEST = 1e-9, 1e-6
ROOT_SHARE = 0.1  # of the time limit may go into the certificate
ENDED = {"optimal": Status.OPTIMAL, "gaplimit": Status.OPTIMAL, "timelimit": Status.TIME_LIMIT}


class ScipRun(NamedTuple):
    """What SCIP said: support (p,) bool or None where it has no point, its bound, seconds of the search, nodes."""

    status: Status
    support: NDArray[np.bool_] | None
    lower_bound: float
    seconds: float
    nodes: int


def solve_scip(problem: LayerProblem, gap: float, time_limit: float) -> Result:
    """Exact solution to the relative gap through SCIP, one thread.

    lower_bound is the better of SCIP's dual bound and the certificate's; the certificate proves the root relaxation's only.
    Status FEASIBLE where SCIP says optimal and the fitted value leaves a larger gap, FAILED or INFEASIBLE, without a
    point, where SCIP says so. InputError where the cost is not a s^2 + b s, or pyscipopt is missing.
    """
    begin = time.perf_counter()
    reduced = reduce(problem)
    built = build_scip(reduced)  # before any work: what cannot be modelled is refused here
    certificate = solve_relaxation(problem, "projected", time_limit=ROOT_SHARE * time_limit).certificate
    assert certificate is not None
    left = max(time_limit - (time.perf_counter() - begin), 1e-3)
    run = run_scip(built, gap, left)
    if run.status not in (Status.OPTIMAL, Status.TIME_LIMIT):
        return no_result(run.status, time.perf_counter() - begin, "scip")
    weights = reduced.zero()  # a point of every layer, for a search that ended before its first
    if run.support is not None:
        fitted = fit_support(reduced, run.support).weights
        weights = min(weights, fitted, key=problem.objective)
    objective = problem.objective(weights)
    bound = min(max(run.lower_bound, certificate.bound), objective)
    proven = relative_gap(objective, bound) <= gap
    return Result(
        status=Status.OPTIMAL if proven else Status.FEASIBLE if run.status is Status.OPTIMAL else run.status,
        objective=objective,
        lower_bound=bound,
        weights=problem.shaped(weights),
        indicators=problem.kept(weights),
        seconds=time.perf_counter() - begin,
        nodes=run.nodes,
        backend="scip",
        certificate=certificate,
    )


def run_scip(built: ScipModel, gap: float, time_limit: float) -> ScipRun:
    """SCIP alone, from the model to its answer."""
    model = built.model
    for name, setting in (
        ("limits/gap", SHARE * gap),
        ("limits/time", time_limit),
        ("numerics/feastol", min(max(FEASIBILITY * gap, FINEST), COARSEST)),
        ("parallel/maxnthreads", 1),
        ("lp/threads", 1),
    ):
        model.setParam(name, setting)
    begin = time.perf_counter()
    model.optimize()
    seconds, said = time.perf_counter() - begin, model.getStatus()
    status = ENDED.get(said, Status.INFEASIBLE if said == "infeasible" else Status.FAILED)
    bound = model.getDualbound()
    support = None
    if model.getNSols() > 0:
        best = model.getBestSol()
        support = np.array([model.getSolVal(best, y) >= 0.5 for y in built.indicators])
    # SCIP's infinity is a large number
    lower = built.value * bound if abs(bound) < model.infinity() else -np.inf
    return ScipRun(status, support, float(lower), seconds, int(model.getNNodes()))
