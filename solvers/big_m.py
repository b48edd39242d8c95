"""The big-M relaxation, the weakest of the chain: each group pays price * max_k |w_k| / M besides its own cost.

Continuous relaxation of |w_k| <= M y, y in {0, 1}, with the cost kept as it is: the cheapest y is max_k |w_k| / M.
Without a bound it is the limit M -> inf: y is free to go to zero and the price is lost altogether.
"""

import time

import numpy as np

from solvers.conic import (
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
from solvers.problem import LayerProblem
from solvers.result import Result, Status, no_result


def solve_big_m(problem: LayerProblem) -> Result:
    """Solve with Clarabel; the value is the problem's own `big_m_relaxed`, the certificate a dual of this relaxation.

    Status FEASIBLE where our dual does not confirm Clarabel's optimum, FAILED where it found none. InputError where the
    cost is not a s^2 + b s.
    """
    begin, scaled, cp = time.perf_counter(), scale(problem, "big-M"), load_cvxpy()
    V = cp.Variable(scaled.reduced.zero().shape)
    fit = express_loss(scaled, V)
    cost = fit.cost + cp.sum_squares(cp.multiply(np.sqrt(scaled.a), V))
    if np.any(scaled.b > 0):
        cost += cp.sum(cp.multiply(scaled.b, cp.abs(V)))
    constraints = fit.constraints
    if scaled.bound is not None:
        y = cp.Variable(problem.n_groups)
        cost += scaled.price * cp.sum(y)
        constraints += [y <= 1] + [cp.abs(V[m]) <= scaled.bound[m] * y[j] for j, m in enumerate(problem.members)]
        if problem.at_most is not None:
            constraints.append(cp.sum(y) <= problem.at_most)
    program = cp.Problem(cp.Minimize(cost), constraints)
    status = solve_conic(program)
    if status is not Status.OPTIMAL:
        return no_result(status, time.perf_counter() - begin, "big_m")
    weights, bound = into_box(problem, V.value * scaled.unit), problem.regulariser.bound
    peaks = np.array([np.max(np.abs(weights[m])) for m in problem.members])
    if bound is not None:
        weights, share = into_count(problem, weights, peaks / bound)
        peaks = share * bound
    objective = problem.big_m_relaxed(weights)
    certificate = prove(scaled.reduced, weights, "big_m", dual_found(scaled, fit))
    return Result(
        status=judge(objective, certificate),
        objective=objective,
        lower_bound=certificate.bound,
        weights=problem.shaped(weights),
        indicators=np.zeros(problem.n_groups) if bound is None else peaks / bound,
        seconds=time.perf_counter() - begin,
        nodes=program.solver_stats.num_iters or 0,
        backend="big_m",
        certificate=certificate,
    )
