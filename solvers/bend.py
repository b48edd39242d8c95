"""One Newton step in the weights, for a loss that is not quadratic: its quadratic model solved exactly, then shortened.

At fixed indicators the model is  w'H w - 2 linear'w + ridge w^2 + kink |w|  in a box, H half the loss's second derivative;
semismooth Newton solves it (`newton.py`), and a line search makes the whole step a descent step.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solvers.newton import solve_model
from solvers.problem import Array

if TYPE_CHECKING:
    from solvers.reduced import Reduced

HALVINGS = 12
STEPS = 40
SMALLEST = 1e-12  # of the largest curvature, added where the loss is flat: a model without minimum is of no use


def settle(reduced: "Reduced", support: NDArray[np.bool_], weights: Array) -> Array:
    """Newton steps on a fixed support (p,) until nothing moves; the caller checks the duality gap."""
    assert reduced.regulariser.quadratic is not None
    d, bound = len(weights), reduced.regulariser.bound
    rows = support[reduced.problem.labels]
    if not np.any(rows):
        return np.zeros_like(weights)
    ridge = np.full(d, reduced.problem.strength * reduced.regulariser.quadratic[0])
    limit = np.full(d, np.inf if bound is None else bound)
    weights = np.where(rows[:, None], weights, 0.0)
    for _ in range(STEPS):
        moved = bend_to(reduced, weights, rows, ridge, limit)
        still = np.max(np.abs(moved - weights)) <= 1e-15 * np.max(np.abs(moved))
        weights = moved
        if still:
            break
    return weights


def bend_to(reduced: "Reduced", weights: Array, rows: NDArray[np.bool_], ridge: Array, limit: Array) -> Array:
    """Weights (d, o) with those outside `rows` (d,) at zero; the step is halved until the value at fixed y falls.

    ridge and limit (d,): what the fixed indicators make of a s^2 and the box.
    """
    strength = reduced.problem.strength
    assert reduced.regulariser.quadratic is not None
    kink = strength * reduced.regulariser.quadratic[1]
    own = np.flatnonzero(rows)
    inputs, half = reduced.R[:, own], reduced.gradient_half(weights)[1][own]
    bend = 0.5 * reduced.loss.second(reduced.R @ weights, reduced.T)
    target = np.zeros_like(weights)
    for output in range(weights.shape[1]):
        hessian = (inputs * bend[:, [output]]).T @ inputs
        start = weights[own, output]
        level = SMALLEST * (float(np.max(np.diag(hessian))) + float(np.max(ridge[own])))
        linear = hessian @ start - half[:, output] + level * start
        hessian[np.diag_indices(len(own))] += ridge[own] + level
        target[own, output] = solve_model(hessian, linear[:, None], kink, limit[own])[:, 0]
    direction, start = target - np.where(rows[:, None], weights, 0.0), np.where(rows[:, None], weights, 0.0)

    def value(w: Array) -> float:
        cost = np.sum(ridge[:, None] * w**2) + kink * np.sum(np.abs(w))
        return reduced.loss.value(reduced.R @ w, reduced.T) + float(cost)

    before, step = value(start), 1.0
    for _ in range(HALVINGS):
        moved = start + step * direction
        if value(moved) <= before:  # equal: the last digits of the weights, which the dual point still sees
            return moved
        step *= 0.5
    return start
