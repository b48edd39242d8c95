"""The tight relaxation by an own first-order method, on the derived prox and conjugate, nothing else.

    min  L(X W, Y) + strength * sum_j r(w_j)       r = projection of the group's perspective (convex)

Squared loss with a quadratic cost: compiled block coordinate descent (`descend_blocks.py`) comes first and mostly suffices.
Accelerated proximal gradient (Beck and Teboulle 2009) with gradient restart (O'Donoghue and Candes 2015), one step size
per group from a block-diagonal majoriser of the Gram matrix; for quadratic costs, now and then, exact alternating steps
in W and y, then Newton steps on the pattern reached, so that ill conditioning does not crawl; stopped by the duality gap.
Groups may be fixed off (zero) or on (phi + price instead of r, scalar prox), which makes it the node solver of the branch
and bound as well.
"""

import time
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from solvers.bend import bend_to
from solvers.block_kernel import compile_sweeps
from solvers.descend_blocks import can_descend_blocks, descend_blocks
from solvers.dual import FREE, OFF, ON, group_terms, tighten
from solvers.newton import solve_quadratic
from solvers.polish import HALVINGS, STEPS, newton_direction
from solvers.problem import Array, LayerProblem
from solvers.reduced import Reduced, reduce
from solvers.result import Leaf, Result, Status, certify, relative_gap
from solvers.shrink import shrink

TOLERANCE = 1e-9
KINKED = 1e-6
SMALLEST = 1e-12  # an indicator below this is as good as zero in an alternation
ITERATIONS = 20_000
CHECK_EVERY = 10
ALTERNATE_EVERY = 50
ALTERNATIONS = 10


@dataclass(frozen=True, eq=False)
@final
class Point:
    """weights (d, o); primal value and dual value of the relaxation there; the dual point is `scale` times the gradient.

    Where the loss has kinks, or a count of groups is held, the dual point is `multipliers` (samples, o) itself, and
    `indicators` (p,) are the ones of the primal value where those are not y*(weights).
    """

    weights: Array
    primal: float
    dual: float
    scale: float
    iterations: int
    multipliers: Array | None = None
    indicators: Array | None = None


def solve_projected(problem: LayerProblem, tolerance: float | None = None, time_limit: float = 60.0) -> Result:
    """The projected relaxation to a relative duality gap, with the dual point as certificate.

    The gap is 1e-9 unless told otherwise, 1e-6 for a loss with kinks.

    Status TIME_LIMIT where the gap is not reached in `time_limit` seconds, FEASIBLE where it is not in 20,000
    iterations: value and bound are still valid.
    """
    if tolerance is None:
        tolerance = TOLERANCE if problem.measure.smooth else KINKED
    states, start = np.full(problem.n_groups, FREE, dtype=np.int8), None
    blocks, sweeps = can_descend_blocks(problem), 0
    if blocks:
        compile_sweeps()  # once on a machine (numba keeps them), before the clock starts
    begin = time.perf_counter()
    deadline = begin + time_limit
    if blocks:
        descended = descend_blocks(problem, states, tolerance=tolerance / 2, deadline=deadline)
        start, sweeps = descended.weights, descended.sweeps
        if descended.gap <= tolerance / 2:
            slope = problem.measure.gradient(problem.X @ start, problem.targets2d)
            result = _judge(problem, start, slope, None, tolerance, begin, deadline, sweeps)
            if result.status == Status.OPTIMAL:  # else rounding in the Gram matrix: residuals keep more digits
                return result
    reduced = reduce(problem)
    start = reduced.zero() if start is None else start
    point = minimise(reduced, states, start, tolerance=tolerance / 2, deadline=deadline)
    dual, _ = tighten(problem, dual_of(reduced, point), states)
    nodes = sweeps + point.iterations
    return _judge(problem, point.weights, dual, point.indicators, tolerance, begin, deadline, nodes)


def _judge(
    problem: LayerProblem,
    weights: Array,
    dual: Array,
    indicators: Array | None,
    tolerance: float,
    begin: float,
    deadline: float,
    nodes: int,
) -> Result:
    """The result of weights (d, o) and a dual point (samples, o): value and bound recomputed from the data alone."""
    expired = time.perf_counter() > deadline
    certificate = certify(problem, [Leaf((), (), dual)])
    objective = problem.relaxed(weights)
    reached = relative_gap(objective, certificate.bound) <= tolerance
    return Result(
        status=Status.OPTIMAL if reached else Status.TIME_LIMIT if expired else Status.FEASIBLE,
        objective=objective,
        lower_bound=certificate.bound,
        weights=problem.shaped(weights),
        indicators=indicators_of(problem, weights) if indicators is None else indicators,
        seconds=time.perf_counter() - begin,
        nodes=nodes,
        backend="projected",
        certificate=certificate,
    )


def minimise(
    reduced: Reduced,
    states: NDArray[np.int8],
    start: Array,
    *,
    tolerance: float = TOLERANCE,
    cutoff: float = np.inf,
    deadline: float = np.inf,
) -> Point:
    """Minimise the relaxation with `states` (p,) fixed, from `start` (d, o).

    Stops at relative gap `tolerance`, or as soon as the dual value passes `cutoff`, or at `deadline` (perf_counter).
    The primal and dual values hold wherever it stops.
    """
    if reduced.problem.at_most is not None:
        from solvers.counted import minimise_counted

        return minimise_counted(reduced, states, start, tolerance=tolerance, cutoff=cutoff, deadline=deadline)
    if not reduced.loss.smooth:
        from solvers.multipliers import minimise_kinked

        return minimise_kinked(reduced, states, start, tolerance=tolerance, cutoff=cutoff, deadline=deadline)
    return descend(reduced, states, start, tolerance=tolerance, cutoff=cutoff, deadline=deadline)


def descend(
    reduced: Reduced,
    states: NDArray[np.int8],
    start: Array,
    *,
    tolerance: float,
    cutoff: float = np.inf,
    deadline: float = np.inf,
    iterations: int = ITERATIONS,
) -> Point:
    """`minimise` for a smooth loss and no count: the proximal gradient loop."""
    problem = reduced.problem
    exact_steps = reduced.regulariser.quadratic is not None
    alternate_every = ALTERNATE_EVERY if reduced.squared else CHECK_EVERY
    steps = problem.strength / (2 * reduced.curvature)
    inverse = (1 / reduced.curvature)[problem.labels][:, None]
    metric = reduced.curvature[problem.labels][:, None]
    weights = proximal_step(reduced, states, start, steps)
    ahead, momentum, best = weights, 1.0, None
    for iteration in range(1, iterations + 1):
        moved = proximal_step(reduced, states, ahead - inverse * reduced.gradient_half(ahead)[1], steps)
        change = moved - weights
        if np.sum(metric * (ahead - moved) * change) > 0:  # going uphill: forget the momentum
            momentum = 1.0
        following = 0.5 * (1 + np.sqrt(1 + 4 * momentum**2))
        ahead = moved + ((momentum - 1) / following) * change
        weights, momentum = moved, following
        if iteration % CHECK_EVERY == 0 or iteration <= 2:
            primal, dual, scale = evaluate(reduced, states, weights)
            if best is None or primal - dual < best.primal - best.dual:
                best = Point(weights, primal, dual, scale, iteration)
            if exact_steps and (iteration % alternate_every == 0 or (iteration == 1 and not reduced.squared)):
                weights = ahead = polish(reduced, states, alternate(reduced, states, weights))
                momentum = 1.0
            done = best.primal - best.dual <= tolerance * max(1e-12, abs(best.primal))
            if done or best.dual >= cutoff or time.perf_counter() > deadline:
                break
    assert best is not None
    return best


def proximal_step(reduced: Reduced, states: NDArray[np.int8], v: Array, steps: Array) -> Array:
    """Prox of each group's term in its own metric: the derived prox (free), the scalar prox (on), zero (off)."""
    vectors = reduced.problem.gather(v)
    result = np.zeros_like(vectors)
    free, on = states == FREE, states == ON
    if np.any(free):
        result[free] = reduced.regulariser.prox(vectors[free], steps[free])
    if np.any(on):
        result[on] = shrink(reduced.regulariser, vectors[on], steps[on])
    return reduced.problem.scatter(result)


def alternate(reduced: Reduced, states: NDArray[np.int8], weights: Array) -> Array:
    """Exact minimisation over W at fixed y, then over y at fixed W, a few times: never uphill, blind to ill conditioning.

    A loss that is not quadratic has one Newton step in W for it, shortened until the value falls.
    At fixed y the perspective of a s^2 + b s is a ridge of a / y, the same l1 term, and the box M y. Zero groups stay
    zero here; the proximal steps decide about them.
    """
    problem, strength, bound = reduced.problem, reduced.problem.strength, reduced.regulariser.bound
    assert reduced.regulariser.quadratic is not None
    a, b = reduced.regulariser.quadratic
    for _ in range(ALTERNATIONS):
        y = np.where(states == ON, 1.0, indicators_of(problem, weights))[problem.labels]
        rows = (y > SMALLEST) & (states != OFF)[problem.labels]
        if not np.any(rows):
            break
        moved = np.zeros_like(weights)
        limit = np.full(len(y), np.inf) if bound is None else bound * y
        if reduced.squared:
            moved[rows] = solve_quadratic(
                reduced.R[:, rows], reduced.T, strength * a / y[rows], strength * b, limit[rows]
            )
        else:
            moved = bend_to(reduced, weights, rows, strength * a / np.where(rows, y, 1.0), limit)
        before, after = (evaluate(reduced, states, w)[0] for w in (weights, moved))
        if not after < before:
            break
        weights = moved
        if before - after <= 1e-13 * abs(after):
            break
    return weights


def polish(reduced: Reduced, states: NDArray[np.int8], weights: Array) -> Array:
    """Newton steps on the pattern of `weights`, each accepted only where the value falls: never uphill."""
    value = evaluate(reduced, states, weights)[0]
    bound = reduced.regulariser.bound
    limit = np.inf if bound is None else bound
    for _ in range(STEPS):
        y = np.where(states == ON, 1.0, indicators_of(reduced.problem, weights))
        found = newton_direction(reduced, states, weights, y)
        if found is None:
            return weights
        change, to_box = found
        before = value
        halvings = HALVINGS if reduced.squared else 3 * HALVINGS  # a Newton model of a bent loss holds less far
        for step in (1.0, to_box, *(0.5**k for k in range(1, halvings))):
            moved = weights + step * change
            # a weight that changes sign meets the kink of |w| at zero, or a cost that is smooth there
            moved = np.clip(np.where(moved * weights < 0, 0.0, moved) if _has_kink(reduced) else moved, -limit, limit)
            found_value = evaluate(reduced, states, moved)[0]
            if found_value < value:
                weights, value = moved, found_value
                break
        if before - value <= 1e-14 * abs(value):
            break
    return weights


def _has_kink(reduced: Reduced) -> bool:
    return reduced.regulariser.quadratic is not None and reduced.regulariser.quadratic[1] > 0


def evaluate(reduced: Reduced, states: NDArray[np.int8], weights: Array) -> tuple[float, float, float]:
    """Primal value, dual value and the multiple of the gradient that gives it, at weights that respect the states."""
    loss, half, below = reduced.linearise(weights)
    strength = reduced.problem.strength
    primal = loss + strength * penalty(reduced, states, weights)
    z = reduced.problem.gather((2 / strength) * np.abs(half))

    def dual(scale: float) -> float:
        terms = float(np.sum(group_terms(reduced.regulariser, scale * z, states, "perspective")[0]))
        return below(scale) - strength * terms

    value, best = dual(1.0), 1.0
    if value < below(0.0):  # far from optimal, or phi* is +inf beyond a slope: shrink the dual point
        for scale in (1 - 1e-12, 1 - 1e-9, 1 - 1e-6, 0.999, 0.97, 0.9, 0.75, 0.5, 0.2, 0.0):
            if dual(scale) > value:
                value, best = dual(scale), scale
    return primal, value, best


def dual_of(reduced: Reduced, point: Point) -> Array:
    """The dual point U (samples, o) of a point."""
    return reduced.dual_point(point.weights, point.scale) if point.multipliers is None else point.multipliers


def penalty(reduced: Reduced, states: NDArray[np.int8], weights: Array) -> float:
    regulariser, vectors = reduced.regulariser, reduced.problem.gather(weights)
    free, on = states == FREE, states == ON
    total = float(np.sum(regulariser.value(vectors[free]))) if np.any(free) else 0.0
    return total + float(np.sum(regulariser.cost(vectors[on]))) + regulariser.price * np.count_nonzero(on)


def indicators_of(problem: LayerProblem, weights: Array) -> Array:
    """y*(w_j) of each group, (p,) in [0, 1], no count held."""
    return np.asarray(problem.regulariser.indicator(problem.gather(weights)))


def fixed_states(support: NDArray[np.bool_]) -> NDArray[np.int8]:
    """States with every group fixed: ON in the support, OFF elsewhere."""
    return np.where(support, ON, OFF).astype(np.int8)
