"""More curvature in the perspective never loosens it: none <= uniform exactly, the SDP's shares are cvxpy's, blocks go beyond.

None and uniform are ordered as matrices, hence exactly so in their bounds. The SDP maximises sum t_j, not the bound: it is
ordered against neither, and one layer below shows it under both. Blocks maximise the bound itself: up to their barrier they
are above any other choice.
"""

import time
from dataclasses import replace
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from layer_cases import make_layer
from split_cases import dense_blocks, random_layer, true_optimum

from perspective.errors import InputError
from solvers import LayerProblem
from solvers.exact import STRENGTHENINGS
from solvers.split.kernel import assess, lowest, step_indicators
from solvers.split.node import Effort, look_closely
from solvers.split.program import Split, condense, normal_equations, split_problem
from solvers.split.strengthen import MODES, largest_shares, output_clusters, root_curvature

LAYERS: dict[str, dict[str, Any]] = {
    "groups of two": {"sizes": (2,) * 5},
    "unequal groups": {"sizes": (1, 4, 2, 3), "outputs": 2},
    "correlated, many": {"sizes": (3,) * 4, "samples": 14, "strength": 1.0},
    "dead columns": {"sizes": (2, 2, 2), "zero": True},
}


def root_bound(problem: LayerProblem, mode: str, optimum: float) -> float:
    """The root's bound: fixed blocks by plain Newton steps, moving ones by the search's own look, aimed at the optimum."""
    split = split_problem(problem, output_clusters(mode, problem.targets2d.shape[1]))
    p = problem.n_groups
    E = root_curvature(split, mode)
    if mode != "blocks":
        return fixed_bound(split, E)
    start = (np.full(p, 0.5), E, np.zeros(E.shape[:3]), 0.01 * optimum / len(E))
    part = condense(split, np.zeros(p, dtype=np.int8))
    effort = Effort(200, 1e-4, True)
    look = look_closely(split, part, split.room, start, optimum * (1 + 1e-6), effort, time.perf_counter() + 20.0)
    assert look is not None
    return look.bound


def fixed_bound(split: Split, E: np.ndarray) -> float:
    """The best tangent's minimum on the way of 60 Newton steps of the indicators."""
    p = split.problem.n_groups
    y, best, prices = np.full(p, min(0.5, split.room / p)), -np.inf, np.full(p, split.price)
    for _ in range(60):
        ok, h, gradient, hessian, _, _ = assess(split.A, split.Bt, split.starts, E, np.zeros_like(E), y, prices)
        assert ok
        best = max(best, split.constant + h - gradient @ y + lowest(gradient, split.room))
        y = step_indicators(y, gradient, hessian, split.room)
    return float(best)


def test_the_modes_are_the_ones_offered() -> None:
    assert MODES == STRENGTHENINGS
    with pytest.raises(InputError, match="unknown strengthening"):
        root_curvature(split_problem(make_layer(0), 1), "more")


@pytest.mark.parametrize("layer", LAYERS)
def test_the_shares_solve_the_semidefinite_program(layer: str) -> None:
    problem = make_layer(2, bound=None, **LAYERS[layer])
    split = split_problem(problem, 1)
    found = largest_shares(split)
    # an unwhitened model of its own: A - blockdiag(t_j A_jj), rows scaled to a unit diagonal
    A, _ = normal_equations(problem)
    scale = 1 / np.sqrt(np.diagonal(A))
    A = scale[:, None] * A * scale
    blocks = [A * np.outer(problem.labels == j, problem.labels == j) for j in range(problem.n_groups)]
    t = cp.Variable(problem.n_groups, nonneg=True)
    rest = A - sum(t[j] * blocks[j] for j in range(problem.n_groups))
    program = cp.Problem(cp.Maximize(cp.sum(t)), [0.5 * (rest + rest.T) >> 0])
    program.solve(solver=cp.CLARABEL)
    assert program.status == "optimal"
    assert np.sum(found) == pytest.approx(program.value, rel=1e-4)
    np.testing.assert_allclose(found, t.value, atol=1e-2)
    s = split.size
    assert np.min(np.linalg.eigvalsh(split.A - np.diag(np.repeat(found, s)))) > -1e-12


@pytest.mark.parametrize("seed", range(9))
def test_root_blocks_lie_inside_the_cone(seed: int) -> None:
    problem = random_layer(seed)
    for mode in MODES:
        split = split_problem(problem, output_clusters(mode, problem.targets2d.shape[1]))
        E = root_curvature(split, mode)
        assert np.array_equal(E, E.swapaxes(2, 3))
        for blocks in E:
            assert np.min(np.linalg.eigvalsh(blocks)) > 0
            assert np.min(np.linalg.eigvalsh(split.A - dense_blocks(blocks))) >= 0.5 * split.margin


@pytest.mark.parametrize("seed", range(6))
def test_no_shift_is_the_plain_perspective_and_uniform_is_above_it(seed: int) -> None:
    """E(none) <= E(uniform) as matrices; in the layer's own features they are multiples of the identity."""
    problem = make_layer(seed, sizes=(1, 3, 2, 2), outputs=seed % 3, bound=None)
    split = split_problem(problem, 1)
    ridge = problem.strength * problem.regulariser.quadratic[0]
    none, uniform = (root_curvature(split, mode)[0] for mode in ("none", "uniform"))
    real = split.slots < problem.X.shape[1]
    for j in range(problem.n_groups):
        back = np.linalg.inv(split.whitener[j])[np.ix_(real[j], real[j])]
        inside = none[j][np.ix_(real[j], real[j])]
        np.testing.assert_allclose(back @ inside @ back.T, ridge * np.eye(real[j].sum()), rtol=1e-6, atol=1e-9 * ridge)
    least = max(0.0, float(np.linalg.eigvalsh(problem.X.T @ problem.X)[0]))
    assert np.min(np.linalg.eigvalsh(uniform - none)) >= -1e-8
    assert np.max(uniform[:, 0, 0] / none[:, 0, 0]) <= (ridge + least) / ridge * (1 + 1e-6)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("seed", [1, 2, 5])
def test_root_bounds_are_ordered_and_below_the_optimum(layer: str, seed: int) -> None:
    problem = make_layer(seed, bound=None, **LAYERS[layer])
    optimum = true_optimum(problem)
    bounds = {mode: root_bound(problem, mode, optimum) for mode in MODES}
    for bound in bounds.values():
        assert bound <= optimum * (1 + 1e-6)
    assert bounds["none"] <= bounds["uniform"] + 1e-6 * optimum
    assert bounds["blocks"] >= 0.999 * max(bounds.values())


def test_the_largest_shares_need_not_give_the_best_bound() -> None:
    problem = make_layer(5, sizes=(2, 2, 2, 2), bound=None)
    optimum = true_optimum(problem)
    none, sdp, blocks = (root_bound(problem, mode, optimum) for mode in ("none", "sdp", "blocks"))
    assert sdp < none < blocks


def test_the_root_bound_without_a_shift_is_the_projected_relaxation() -> None:
    """Two programs of ours that share no line: the split's h and the projected relaxation's first-order method."""
    from solvers import solve_relaxation

    for seed in range(3):
        problem = make_layer(seed, sizes=(2, 3, 1, 2), outputs=2, bound=None, strength=6.0)
        relaxed = solve_relaxation(problem, "projected")
        bound = root_bound(problem, "none", true_optimum(problem))
        assert bound == pytest.approx(relaxed.objective, rel=1e-5)


def test_a_count_tightens_every_root_bound() -> None:
    problem = make_layer(3, sizes=(2,) * 5, bound=None, strength=0.5)
    few = replace(problem, at_most=2)
    for mode in MODES:
        loose, tight = (root_bound(p, mode, true_optimum(p)) for p in (problem, few))
        assert loose < tight <= true_optimum(few) * (1 + 1e-6)
