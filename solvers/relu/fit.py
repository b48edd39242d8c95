"""Points of a ReLU layer: a descent on the true objective from a start, with the groups that may be used fixed.

The true objective is quadratic where no prediction changes sign. Each step solves that quadratic for the present pattern
of active predictions (outputs one by one, box included) and goes as far towards it as the true objective falls; only an
incumbent comes out of it, never a bound. Costs other than a s^2 + b s go through scipy's L-BFGS-B on the true objective.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from solvers.newton import solve_quadratic
from solvers.problem import Array, LayerProblem

STEPS = 30
HALVINGS = 8
SETTLED = 1e-12


def descend(problem: LayerProblem, support: NDArray[np.bool_], start: Array) -> tuple[Array, float]:
    """Weights (d, o) on `support` (p,) and their objective, a local minimum of the patterns visited or close to one."""
    rows = support[problem.labels]
    weights = np.where(rows[:, None], start, 0.0)
    value = problem.objective(weights)
    for _ in range(STEPS):
        if not np.any(rows):
            break
        aim = _pattern_fit(problem, rows, weights)
        before = value
        for step in 0.5 ** np.arange(HALVINGS):
            moved = weights + step * (aim - weights)
            found = problem.objective(moved)
            if found < value:
                weights, value = moved, found
                break
        if before - value <= SETTLED * before:
            break
    return weights, value


def _pattern_fit(problem: LayerProblem, rows: NDArray[np.bool_], weights: Array) -> Array:
    if problem.regulariser.quadratic is None:
        return _smooth_fit(problem, rows, weights)
    active = problem.X @ weights > 0
    a, b = problem.regulariser.quadratic
    n, bound = int(np.count_nonzero(rows)), problem.regulariser.bound
    limit, aim = np.full(n, np.inf if bound is None else bound), np.zeros_like(weights)
    for o in range(weights.shape[1]):
        used = active[:, o]
        if np.any(used):
            found = solve_quadratic(
                problem.X[np.ix_(used, rows)],
                problem.targets2d[used, o][:, None],
                np.full(n, problem.strength * a),
                problem.strength * b,
                limit,
            )
            aim[rows, o] = found[:, 0]
    return aim


def _smooth_fit(problem: LayerProblem, rows: NDArray[np.bool_], weights: Array) -> Array:
    X, Y, r, bound = problem.X[:, rows], problem.targets2d, problem.regulariser, problem.regulariser.bound

    def value(flat: Array) -> tuple[float, Array]:
        w = flat.reshape(X.shape[1], -1)
        excess = np.maximum(X @ w, 0.0) - Y
        total = float(np.sum(excess**2)) + problem.strength * float(np.sum(r.cost(w)))
        slope = 2 * X.T @ np.where(excess > -Y, excess, 0.0)
        return total, (slope + problem.strength * np.sign(w) * r.cost_derivative(w)).ravel()

    limits = None if bound is None else [(-bound, bound)] * weights[rows].size
    found = minimize(value, weights[rows].ravel(), jac=True, method="L-BFGS-B", bounds=limits)
    aim = np.zeros_like(weights)
    aim[rows] = found.x.reshape(-1, weights.shape[1])
    return aim
