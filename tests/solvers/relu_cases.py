"""Tiny ReLU layers and their optimum by all supports and all activation patterns: shares no code with the solvers."""

from itertools import product
from typing import Any

import numpy as np
from layer_cases import make_regulariser
from scipy.optimize import nnls

from solvers import LayerProblem

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "two outputs": {"outputs": 2},
    "box binds": {"bound": 0.3},
    "no box": {"bound": None},
    "negative targets": {"shift": -0.5},
    "no positive target": {"shift": -9.0},
    "at most one": {"at_most": 1, "strength": 0.1},
    "at most two, outputs": {"at_most": 2, "strength": 0.1, "outputs": 2},
    "zero columns": {"zero": True},
    "duplicate columns": {"duplicate": True},
    "more inputs than samples": {"samples": 4},
    "everything too dear": {"strength": 100.0},
    "inputs in millions": {"scale": 1e6, "bound": 1.5e-6},
}


def make_relu_layer(
    seed: int,
    *,
    sizes: tuple[int, ...] = (1, 2, 2),
    samples: int = 6,
    outputs: int = 0,
    strength: float = 0.5,
    shift: float = 0.0,
    zero: bool = False,
    duplicate: bool = False,
    scale: float = 1.0,
    at_most: int | None = None,
    **declared: Any,
) -> LayerProblem:
    """Half the groups active behind a ReLU, noise, targets moved by `shift`."""
    random, d, o = np.random.default_rng(seed), sum(sizes), max(outputs, 1)
    X = random.standard_normal((samples, d))
    if duplicate:
        X[:, -1] = X[:, 0]
    if zero:
        X[:, -1] = X[:, 0] = 0.0
    active = np.repeat(random.random(len(sizes)) < 0.7, sizes)
    W = random.standard_normal((d, o)) * active[:, None]
    Y = np.maximum(0, X @ W + 0.5 * random.standard_normal((samples, o))) + shift
    labels = np.repeat(np.arange(len(sizes)), sizes)
    regulariser = make_regulariser(**({"alpha": 0.3} | declared))
    target = Y if outputs else Y[:, 0]
    return LayerProblem(X * scale, target, labels, regulariser, strength, loss="relu", at_most=at_most)


def optimum_by_patterns(problem: LayerProblem) -> float:
    """min over supports and sign patterns of a constrained least squares problem; phi = a s^2 only."""
    a, b = problem.regulariser.quadratic
    assert b == 0
    best, bound = np.inf, problem.regulariser.bound
    for support in product((False, True), repeat=problem.n_groups):
        if problem.at_most is not None and sum(support) > problem.at_most:
            continue
        value = problem.strength * problem.regulariser.price * sum(support)
        X = problem.X[:, np.array(support)[problem.labels]]
        for y in problem.targets2d.T:
            value += _best_pattern(X, y, problem.strength * a, bound)
        best = min(best, value)
    return float(best)


def _best_pattern(X: np.ndarray, y: np.ndarray, ridge: float, bound: float | None) -> float:
    best, d = float(np.sum(y**2)), X.shape[1]
    if d == 0:
        return best
    units = np.max(np.abs(X), axis=0)  # columns of size one, so that the signs' constraints mean the same as the box's
    units = np.where(units > 0, units, 1.0)
    X, ridges = X / units, np.sqrt(ridge) / units
    for signs in product((-1.0, 1.0), repeat=len(y)):
        s = np.array(signs)
        on = s > 0
        A, target = np.vstack([X[on], np.diag(ridges)]), np.append(y[on], np.zeros(d))
        G, h = s[:, None] * X, np.zeros(len(y))
        if bound is not None:
            G = np.vstack([G, np.eye(d) / units, -np.eye(d) / units])
            h = np.append(h, np.full(2 * d, -bound))
        w = _constrained_least_squares(A, target, G, h)
        if bound is not None:
            w = np.clip(w, -bound * units, bound * units)
        z = X @ w  # the true value at the point found: an upper bound whatever the accuracy
        best = min(best, float(np.sum((np.maximum(z, 0) - y) ** 2) + np.sum((ridges * w) ** 2)))
    return best


def _constrained_least_squares(A: np.ndarray, b: np.ndarray, G: np.ndarray, h: np.ndarray) -> np.ndarray:
    """min ||A w - b|| with G w >= h, through least distance programming and NNLS (Lawson and Hanson 1974, chapter 23)."""
    Q, R = np.linalg.qr(A)
    f = Q.T @ b
    H = np.linalg.solve(R.T, G.T).T
    lift = h - H @ f
    sizes = np.linalg.norm(H, axis=1) + np.abs(lift)
    sizes = np.where(sizes > 0, sizes, 1.0)
    E = np.vstack([H.T / sizes, lift / sizes])
    goal = np.append(np.zeros(len(f)), 1.0)
    x, _ = nnls(E, goal, maxiter=1000)
    r = E @ x - goal
    if r[-1] >= -1e-14:  # too far out for NNLS: 0 is feasible, and a pattern left out can only raise the minimum
        return np.zeros(A.shape[1])
    return np.linalg.solve(R, f - r[:-1] / r[-1])
