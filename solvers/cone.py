"""The perspective relaxation as a second-order cone program: one rotated cone per group.

phi(s) = a s^2 + b s:   y sum_k phi(w_k / y) = a ||w||^2 / y + b ||w||_1,   written with t >= ||w||^2 / y.
(Frangioni and Gentile 2006; Guenluek and Linderoth 2010.)
"""

import time

import numpy as np

from solvers.conic import (
    Scaled,
    dual_found,
    express_loss,
    into_box,
    into_count,
    judge,
    load_cvxpy,
    prove,
    scale,
    solve_conic,
)
from solvers.problem import Array, LayerProblem
from solvers.result import Result, Status, no_result

SMALLEST = 1e-7  # an indicator the interior point leaves below this is zero, with its group's weights


def solve_cone(problem: LayerProblem) -> Result:
    """Solve with Clarabel; the value is the problem's own `perspective` at the solver's (W, y), not the projected one.

    So its agreement with "projected" checks the projection itself. Status FEASIBLE where our dual does not confirm the
    optimum, FAILED where Clarabel found none. InputError where the cost is not a s^2 + b s.
    """
    begin, scaled, cp = time.perf_counter(), scale(problem, "cone"), load_cvxpy()
    V, y = cp.Variable(scaled.reduced.zero().shape), cp.Variable(problem.n_groups)
    fit = express_loss(scaled, V)
    cost = fit.cost + scaled.price * cp.sum(y)
    constraints = [y >= 0, y <= 1, *fit.constraints]
    if problem.at_most is not None:
        constraints.append(cp.sum(y) <= problem.at_most)
    if np.any(scaled.a > 0):
        root = np.sqrt(scaled.a)
        cost += sum(cp.quad_over_lin(cp.multiply(root[m], V[m]), y[j]) for j, m in enumerate(problem.members))
    if np.any(scaled.b > 0):
        cost += cp.sum(cp.multiply(scaled.b, cp.abs(V)))
    if scaled.bound is not None:
        constraints += [cp.abs(V[m]) <= scaled.bound[m] * y[j] for j, m in enumerate(problem.members)]
    program = cp.Problem(cp.Minimize(cost), constraints)
    status = solve_conic(program)
    if status is not Status.OPTIMAL:
        return no_result(status, time.perf_counter() - begin, "cone")
    weights, indicators = into_count(problem, *_rounded(problem, scaled, V.value, y.value))
    objective = problem.perspective(weights, indicators)
    certificate = prove(scaled.reduced, weights, "perspective", dual_found(scaled, fit))
    return Result(
        status=judge(objective, certificate),
        objective=objective,
        lower_bound=certificate.bound,
        weights=problem.shaped(weights),
        indicators=indicators,
        seconds=time.perf_counter() - begin,
        nodes=program.solver_stats.num_iters or 0,
        backend="cone",
        certificate=certificate,
    )


def _rounded(problem: LayerProblem, scaled: Scaled, V: Array, y: Array) -> tuple[Array, Array]:
    """The solver's point made exactly feasible: y in [max|w|/M, 1], groups with a vanishing y set to zero."""
    weights = into_box(problem, V * scaled.unit)
    bound = problem.regulariser.bound
    indicators = np.clip(y, 0.0, 1.0)
    for j, m in enumerate(problem.members):
        if indicators[j] < SMALLEST:
            weights[m], indicators[j] = 0.0, 0.0
        elif bound is not None:
            indicators[j] = min(1.0, max(indicators[j], float(np.max(np.abs(weights[m]))) / bound))
    return weights, indicators
