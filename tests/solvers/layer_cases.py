"""Small random layers with every difficulty the laws are held against, and an optimum found by another library."""

from itertools import product
from typing import Any

import numpy as np
from scipy.optimize import lsq_linear

from perspective import declare, derive
from solvers import LayerProblem

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "no box": {"bound": None},
    "box binds": {"bound": 0.3},
    "several outputs": {"outputs": 3},
    "elastic cost": {"beta": 0.4},
    "elastic cost without a box": {"beta": 0.4, "bound": None},
    "elastic cost, box binds, outputs": {"beta": 0.4, "bound": 0.3, "outputs": 2},
    "more inputs than samples": {"samples": 7},
    "duplicate columns": {"duplicate": True},
    "zero columns": {"zero": True},
    "one group": {"sizes": (5,)},
    "groups of one": {"sizes": (1,) * 6},
    "unequal groups": {"sizes": (1, 4, 2, 3)},
    "cheap": {"strength": 1e-3},
    "everything too dear": {"strength": 1e4},
    "inputs in millions": {"scale": 1e6, "bound": 1.5e-6, "alpha": 0.5},
    "targets in millionths": {"target_scale": 1e-6, "bound": 1.5e-6},
}


def make_regulariser(alpha: float = 0.5, bound: float | None = 1.5, beta: float | None = None) -> Any:
    cost = "alpha*s**2" if beta is None else "alpha*s**2 + beta*s"
    block = declare(cost, price="1-alpha", bound=None if bound is None else "M")
    numbers = {"alpha": alpha} | ({} if bound is None else {"M": bound}) | ({} if beta is None else {"beta": beta})
    return derive(block).bind(**numbers)


def make_layer(
    seed: int = 0,
    *,
    sizes: tuple[int, ...] = (2, 2, 2, 2),
    samples: int = 25,
    outputs: int = 0,
    strength: float = 4.0,
    duplicate: bool = False,
    zero: bool = False,
    scale: float = 1.0,
    target_scale: float = 1.0,
    **declared: Any,
) -> LayerProblem:
    """Correlated inputs, half the groups active, noise; outputs=0 gives targets of shape (samples,)."""
    random, d = np.random.default_rng(seed), sum(sizes)
    X = random.standard_normal((samples, d))
    for column in range(1, d):
        X[:, column] = 0.5 * X[:, column - 1] + 0.87 * X[:, column]
    if duplicate:
        X[:, -1] = X[:, 0]
        X[:, 1] = X[:, 0]
    if zero:
        X[:, : sizes[0]] = 0.0
        X[:, -1] = 0.0
    labels = np.repeat(np.arange(len(sizes)) * 3 - 4, sizes)  # any integers will do
    active = np.repeat(random.random(len(sizes)) < 0.6, sizes)
    W = random.standard_normal((d, max(outputs, 1))) * active[:, None]
    Y = X @ W + 0.8 * random.standard_normal((samples, max(outputs, 1)))
    if scale != 1.0:  # the same problem in other units: w shrinks, so alpha w^2 is negligible and the box must follow
        X = X * scale
    if target_scale != 1.0:
        Y, strength = Y * target_scale, strength * target_scale**2
    return LayerProblem(X, Y if outputs else Y[:, 0], labels, make_regulariser(**declared), strength)


def make_spread_layer() -> LayerProblem:
    """Columns of one group differ by a factor of a hundred: first-order steps crawl. The optimum is 2570.7759648671."""
    random = np.random.default_rng(2)
    X = random.normal(size=(35, 7)) * 10.0 ** random.uniform(-2, 2, size=7)
    Y = random.normal(size=35) * 10
    return LayerProblem(X, Y, [0, 1, 2, 0, 1, 2, 2], make_regulariser(alpha=1e-6, bound=100.0), 5.6)


def optimum_by_least_squares(problem: LayerProblem) -> float:
    """The exact optimum for phi = a s^2 by scipy's bounded least squares over all supports: shares no code with us."""
    a, b = problem.regulariser.quadratic
    assert b == 0
    bound = np.inf if problem.regulariser.bound is None else problem.regulariser.bound
    best = np.inf
    for support in product((False, True), repeat=problem.n_groups):
        rows = np.array(support)[problem.labels]
        value = problem.strength * problem.regulariser.price * sum(support)
        for y in problem.targets2d.T:
            if not rows.any():
                value += np.sum(y**2)
                continue
            n = int(rows.sum())
            A = np.vstack([problem.X[:, rows], np.sqrt(problem.strength * a) * np.eye(n)])
            value += 2 * lsq_linear(A, np.append(y, np.zeros(n)), (-bound, bound), method="bvls", tol=1e-14).cost
        best = min(best, value)
    return float(best)
