"""The chain of bounds, checked: big-M relaxation <= perspective cone = projected relaxation <= exact optimum.

Four solvers of three kinds; each value is recomputed by the problem at the point found, each lower bound by our own dual.
"""

import math
import time
from dataclasses import dataclass
from typing import final

from perspective.errors import CheckFailed
from solvers.enumerate import MOST_GROUPS, enumerate_supports
from solvers.exact import solve_exact
from solvers.problem import LayerProblem
from solvers.reduced import reduce
from solvers.relax import solve_relaxation
from solvers.result import Proof, Result, Status

TOLERANCE = 1e-5  # of max(1, |exact|): the chain's own check
NO_GAP = 1e-9  # a root gap below this share of max(1, |exact|) is none


@dataclass(frozen=True, eq=False)
@final
class BoundChain:
    """big_m <= cone = projected <= exact, values of the problem itself.

    exact        the optimum (status OPTIMAL), else the best point's value when time ran out
    lower_bound  what `certificate` proves about the exact program, checked
    gap_closed   (projected - big_m) / (exact - big_m) in [0, 1]: share of the root gap the perspective closes; 1 if none
    status       of the exact solve; indicators: 0/1 of each group in the exact point; seconds: of everything
    """

    big_m: float
    cone: float
    projected: float
    exact: float
    lower_bound: float
    gap_closed: float
    status: Status
    indicators: tuple[int, ...]
    seconds: float
    certificate: Proof


def bound_chain(problem: LayerProblem, gap: float = 1e-6, time_limit: float = 60.0) -> BoundChain:
    """Solve all four, verify the chain and the certificate.

    The exact program goes through HiGHS and, for at most 12 groups, through enumeration too. CheckFailed where a solver
    fails, the two disagree, the certificate does not check, or the chain is violated by 1e-5 max(1, |exact|).
    """
    begin = time.perf_counter()
    relaxations = {kind: _solved(solve_relaxation(problem, kind)) for kind in ("big_m", "cone", "projected")}
    big_m, cone, projected = (relaxations[kind].objective for kind in ("big_m", "cone", "projected"))
    exact = solve_exact(problem, gap=gap, time_limit=time_limit, backend="highs")
    if exact.certificate is None or exact.indicators is None:
        raise CheckFailed(f"HiGHS gave no answer to the exact program: {exact.status}")
    best, certificate, status = exact.objective, exact.certificate, exact.status
    left = begin + time_limit - time.perf_counter()
    if problem.n_groups <= MOST_GROUPS and left > 0:
        truth = enumerate_supports(reduce(problem), left)
        if truth.complete:
            _agree(exact, problem.objective(truth.best.weights), gap)
    for result in relaxations.values():
        assert result.certificate is not None
        result.certificate.check(problem)
        if result.certificate.bound > certificate.bound:  # time ran out early: a relaxation's proof holds here too
            certificate = result.certificate
    certificate.check(problem)
    verify_order(big_m, cone, projected, best)
    return BoundChain(
        big_m=big_m,
        cone=cone,
        projected=projected,
        exact=best,
        lower_bound=certificate.bound,
        gap_closed=gap_closed(big_m, projected, best),
        status=status,
        indicators=tuple(int(y) for y in exact.indicators),
        seconds=time.perf_counter() - begin,
        certificate=certificate,
    )


def verify_order(big_m: float, cone: float, projected: float, exact: float) -> None:
    """CheckFailed naming the first link of the chain that does not hold to 1e-5 max(1, |exact|)."""
    values = {"big-M": big_m, "cone": cone, "projected": projected, "exact": exact}
    for name, value in values.items():
        if not math.isfinite(value):
            raise CheckFailed(f"the {name} value is {value}")
    slack = TOLERANCE * max(1.0, abs(exact))
    if big_m > cone + slack:
        raise CheckFailed(f"the chain is broken: big-M {big_m:.10g} > cone {cone:.10g}")
    if abs(cone - projected) > slack:
        raise CheckFailed(f"the chain is broken: cone {cone:.10g} != projected {projected:.10g}")
    if projected > exact + slack:
        raise CheckFailed(f"the chain is broken: projected {projected:.10g} > exact {exact:.10g}")


def gap_closed(big_m: float, projected: float, exact: float) -> float:
    """Share of exact - big_m that the perspective closes, in [0, 1]; 1 where there is no gap to close."""
    root = exact - big_m
    if root <= NO_GAP * max(1.0, abs(exact)):
        return 1.0
    return min(max((projected - big_m) / root, 0.0), 1.0)


def _solved(result: Result) -> Result:
    # a relaxation short of its own gap serves as long as the values can be compared to the chain's tolerance
    if result.status is Status.OPTIMAL or result.gap < TOLERANCE:
        return result
    cure = "rescale the columns of the inputs to similar sizes, and the bound with them"
    raise CheckFailed(f"the {result.backend} relaxation was not solved: {result.status}, gap {result.gap:.3g}; {cure}")


def _agree(exact: Result, truth: float, gap: float) -> None:
    slack = (gap + 1e-9) * max(1.0, abs(truth)) if exact.status is Status.OPTIMAL else math.inf
    if exact.objective < truth - 1e-8 * max(1.0, abs(truth)) or exact.objective > truth + slack:
        raise CheckFailed(f"HiGHS found {exact.objective:.10g}, enumeration {truth:.10g}")
    if exact.lower_bound > truth + TOLERANCE * max(1.0, abs(truth)):
        raise CheckFailed(f"HiGHS claims the bound {exact.lower_bound:.10g}, enumeration found {truth:.10g}")
