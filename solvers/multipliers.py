"""Losses with kinks: the method of multipliers on the dual point, a smooth relaxation in each step.

    U <- gradient of e_{sigma, U} at the minimiser of  e_{sigma, U}(X W) + strength * sum_j (group terms)

e is the loss's Moreau envelope centred at U (`losses/smoothed.py`): the proximal point method on the dual (Rockafellar
1976), exact without sigma going to infinity, each step by the proximal gradient and Newton steps that smooth losses have
(Li, Sun and Toh 2018 for the lasso). U is in the conjugate's domain at every step, so each step gives a bound.
"""

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from solvers.bend import settle
from solvers.dual import FREE, ON, group_terms
from solvers.losses import NonsmoothLoss
from solvers.losses.smoothed import Smoothed
from solvers.problem import Array
from solvers.projected import Point, descend, evaluate, penalty
from solvers.reduced import Reduced

STEPS = 60
INNER = 120  # proximal gradient iterations a step: Newton is expected to need far fewer
GROWTH, LARGEST = 4.0, 1e12  # of sigma, in units of its start
EASY = 60  # inner iterations: a longer step may be tried
FIRST, FINEST = 1e-2, 1e-15  # inner gaps
SHARE = 0.1  # an inner gap is asked to be this share of the outer one


def minimise_kinked(
    reduced: Reduced,
    states: NDArray[np.int8],
    start: Array,
    *,
    tolerance: float,
    cutoff: float = np.inf,
    deadline: float = np.inf,
    centre: Array | None = None,
) -> Point:
    """`minimise` for a loss with kinks; the point carries the best weights and, on their own, the best multipliers.

    centre: multipliers (samples, o) in the conjugate's domain to start from, where some are known.
    """
    problem, loss = reduced.problem, reduced.loss
    assert isinstance(loss, NonsmoothLoss)
    Y = reduced.T
    unit = float(np.mean(np.abs(reduced.R @ start - Y))) or 1.0
    sigma, most = 1.0 / unit, LARGEST / unit
    U = loss.project(sigma * loss.gradient(reduced.R @ start, Y), Y) if centre is None else centre
    weights, iterations = start, 0
    best: Point | None = None
    for step in range(STEPS):
        smooth = replace(reduced, loss=Smoothed(loss, U, sigma), curvature=reduced.curvature * (0.5 * sigma))
        left = np.inf if best is None else best.primal - best.dual
        asked = FIRST if best is None else SHARE * left / max(1e-12, abs(best.primal))
        asked = min(max(asked, FINEST), FIRST)
        inner = _solve_smooth(smooth, states, weights, asked, deadline)
        iterations += inner.iterations
        following = smooth.loss.gradient(reduced.R @ inner.weights, Y)
        primal = loss.value(reduced.R @ inner.weights, Y) + problem.strength * penalty(reduced, states, inner.weights)
        dual = dual_at(reduced, states, following)
        solved = inner.primal - inner.dual <= asked * max(1e-12, abs(inner.primal))
        best = _better(best, Point(inner.weights, primal, dual, 1.0, iterations, following))
        done = best.primal - best.dual <= tolerance * max(1e-12, abs(best.primal))
        if done or best.dual >= cutoff or time.perf_counter() > deadline:
            break
        weights = inner.weights
        if not solved:  # too hard a step: a shorter one, from the best dual point
            assert best.multipliers is not None
            most, U, sigma = sigma / GROWTH, best.multipliers, sigma / GROWTH**2
            continue
        U = following
        if step == 0 or (best.primal - best.dual > 0.1 * left and inner.iterations <= EASY):
            sigma = min(sigma * GROWTH, most)
    assert best is not None
    return replace(best, iterations=iterations)


def _solve_smooth(smooth: Reduced, states: NDArray[np.int8], weights: Array, asked: float, deadline: float) -> Point:
    """One multiplier step's problem: Newton alone where every group is fixed and the cost quadratic, if that gets there."""
    if smooth.regulariser.quadratic is not None and not np.any(states == FREE):
        weights = settle(smooth, states == ON, weights)
        primal, dual, scale = evaluate(smooth, states, weights)
        if primal - dual <= asked * max(1e-12, abs(primal)):
            return Point(weights, primal, dual, scale, 1)
    return descend(smooth, states, weights, tolerance=asked, deadline=deadline, iterations=INNER)


def dual_at(reduced: Reduced, states: NDArray[np.int8], U: Array) -> float:
    """-L*(U) - strength * sum_j h*(z_j), no count held, rounding not covered."""
    problem = reduced.problem
    z = problem.gather(np.abs(reduced.R.T @ U) / problem.strength)
    terms = group_terms(problem.regulariser, z, states, "perspective")[0]
    return -reduced.loss.conjugate(U, reduced.T)[0] - problem.strength * float(np.sum(terms))


def _better(old: Point | None, new: Point) -> Point:
    """The lower primal value with its weights, the higher dual value with its multipliers."""
    if old is None:
        return new
    upper, lower = (old if old.primal <= new.primal else new), (old if old.dual >= new.dual else new)
    return Point(upper.weights, upper.primal, lower.dual, 1.0, new.iterations, lower.multipliers)
