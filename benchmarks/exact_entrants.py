"""Who takes part in the comparison of exact solvers, each as one function from a problem to a plain answer."""

import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.exact_records import OURS
from benchmarks.peer_process import Peer
from perspective.errors import CheckFailed
from solvers import LayerProblem, solve_exact
from solvers.fit import fit_support
from solvers.reduced import reduce

Answer = dict[str, Any]  # status, weights (d,) or None, lower_bound, seconds, nodes, certificate, version
Solve = Callable[[LayerProblem, Path, float, float], Answer]  # problem, the same as a file, gap, time limit


def solve_here(backend: str, strengthen: str | None = None) -> Solve:
    """A backend of ours, certificate checked."""
    chosen = {} if strengthen is None else {"strengthen": strengthen}

    def solve(problem: LayerProblem, data: Path, gap: float, time_limit: float) -> Answer:
        begin = time.perf_counter()
        result = solve_exact(problem, gap=gap, time_limit=time_limit, backend=backend, **chosen)
        seconds = time.perf_counter() - begin
        if result.certificate is not None:
            result.certificate.check(problem)
        proven = None if result.certificate is None else result.certificate.bound
        if backend == OURS and proven is not None and result.lower_bound > proven + 1e-9 * abs(proven):
            raise CheckFailed(
                f"the claimed bound {result.lower_bound!r} is above what the certificate proves, {proven!r}"
            )
        return _answer(
            str(result.status),
            result.weights,
            result.lower_bound,
            seconds,
            result.nodes,
            proven,
            "highspy" if backend == "highs" else "",
        )

    return solve


def solve_in_scip(problem: LayerProblem, data: Path, gap: float, time_limit: float) -> Answer:
    """SCIP's search alone on the perspective formulation."""
    from solvers.scip import run_scip
    from solvers.scip_model import build_scip

    reduced = reduce(problem)
    run = run_scip(build_scip(reduced), gap, time_limit)
    weights = None if run.support is None else fit_support(reduced, run.support).weights[:, 0]
    return _answer(str(run.status), weights, run.lower_bound, run.seconds, run.nodes, None, "pyscipopt")


def solve_in_peer(peer: Peer) -> Solve:
    """A solver in its own process."""

    def solve(problem: LayerProblem, data: Path, gap: float, time_limit: float) -> Answer:
        return {**peer.solve(data, gap, time_limit), "certificate": None, "version": peer.version}

    return solve


def value_answer(problem: LayerProblem, weights: Any) -> float | None:
    """The problem's own value of a solver's weights, or of the best weights on its groups: whichever is smaller."""
    if weights is None:
        return None
    bound = np.inf if problem.regulariser.bound is None else problem.regulariser.bound
    given = np.clip(np.asarray(weights, dtype=float), -bound, bound)
    if not np.all(np.isfinite(given)):
        return None
    refitted = fit_support(reduce(problem), problem.kept(given)).weights
    return min(problem.objective(given), problem.objective(refitted))


def _answer(
    status: str,
    weights: Any,
    lower_bound: float,
    seconds: float,
    nodes: int,
    certificate: float | None,
    package: str = "",
) -> Answer:
    return {
        "status": status,
        "weights": weights,
        "lower_bound": lower_bound if np.isfinite(lower_bound) else None,
        "seconds": seconds,
        "nodes": nodes,
        "certificate": certificate,
        "version": version(package) if package else "",
    }
