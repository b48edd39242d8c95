"""A path's points are the problems' own optima, in the order asked for; warm starts and inherited bounds change no answer."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from layer_cases import make_layer
from loss_cases import make_loss_layer

from perspective.errors import CheckFailed, InputError
from solvers import LayerProblem, Result, path, solution_path, solve_exact
from solvers.enumerate import enumerate_supports
from solvers.path import with_count, with_price, with_strength
from solvers.reduced import reduce

LAYERS: dict[str, dict[str, Any]] = {
    "plain": {"sizes": (2,) * 6, "strength": 2.0},
    "no box": {"sizes": (1, 3, 2, 2), "bound": None},
    "box binds": {"sizes": (2, 1, 2, 1, 2), "bound": 0.3},
    "outputs": {"sizes": (2, 2, 3), "outputs": 2, "strength": 8.0},
    "elastic": {"sizes": (2, 2, 2), "beta": 0.4},
}
GAP = 1e-6


def agree(problem: LayerProblem, result: Result) -> None:
    """The result is an optimum of the problem, and proves it."""
    truth = solve_exact(problem, gap=GAP, backend="enumerate")
    assert result.status == "optimal"
    assert abs(result.objective - truth.objective) <= GAP * truth.objective
    assert result.lower_bound <= truth.objective * (1 + 1e-12)
    assert problem.objective(result.weights) == pytest.approx(result.objective, rel=1e-12)
    assert np.array_equal(problem.kept(result.weights), result.indicators)
    assert result.certificate is not None
    result.certificate.check(problem)


@pytest.mark.parametrize("layer", LAYERS)
def test_every_point_is_the_problems_own_optimum(layer: str) -> None:
    problem = make_layer(5, **LAYERS[layer])
    charge = problem.strength * problem.regulariser.price
    asked: dict[str, list[Any]] = {
        "counts": [2, problem.n_groups, 1, 2],
        "prices": [charge, 0.1 * charge, 3 * charge, 1e4 * charge],
        "strengths": [problem.strength, 20 * problem.strength, 0.2 * problem.strength],
    }
    makers = {"counts": with_count, "prices": with_price, "strengths": with_strength}
    for name, values in asked.items():
        points = solution_path(problem, **{name: values}, gap=GAP)
        assert [point.parameter for point in points] == values
        for point in points:
            agree(makers[name](problem)(point.parameter), point.result)


@pytest.mark.parametrize("loss", ["logistic", "absolute"])
def test_other_losses_have_paths_too(loss: str) -> None:
    problem = make_loss_layer(loss, 3, sizes=(2, 1, 1), samples=8)
    for point in solution_path(problem, counts=[1, 2], gap=1e-4):
        truth = enumerate_supports(reduce(replace(problem, at_most=point.parameter)), 60.0).best.primal
        assert point.result.status == "optimal"
        assert abs(point.result.objective - truth) <= 1e-4 * truth


@pytest.mark.parametrize("seed", range(4))
def test_optima_fall_with_the_count_and_rise_with_price_and_strength(seed: int) -> None:
    problem = make_layer(seed, sizes=(2,) * 7, strength=1.0)
    p = problem.n_groups
    falling = [point.result.objective for point in solution_path(problem, counts=range(1, p + 1), gap=GAP)]
    assert all(after <= before for before, after in pairwise(falling))
    for name in ("prices", "strengths"):
        points = solution_path(problem, **{name: [0.1, 0.5, 1.0, 3.0, 9.0]}, gap=GAP)
        rising = [point.result.objective for point in points]
        assert all(after >= before * (1 - GAP) for before, after in pairwise(rising))
    prices = np.array([0.5, 1.0, 1.5])  # the optimum is concave in the price: a minimum of lines
    low, middle, high = (point.result.objective for point in solution_path(problem, prices=prices, gap=GAP))
    assert middle >= 0.5 * (low + high) * (1 - GAP)


def test_a_price_leaves_the_cost_of_the_weights_alone() -> None:
    problem = make_layer(0)
    random = np.random.default_rng(0)
    weights = random.standard_normal(problem.X.shape[1]) * 0.3
    kept = int(np.count_nonzero(problem.kept(weights)))
    charge = problem.strength * problem.regulariser.price
    dearer = with_price(problem)(charge + 2.5)
    assert dearer.regulariser.quadratic == problem.regulariser.quadratic
    assert dearer.regulariser.bound == problem.regulariser.bound
    assert dearer.objective(weights) == pytest.approx(problem.objective(weights) + 2.5 * kept, rel=1e-12)
    same = with_price(with_price(problem)(3.0))(charge)  # a path along a path: the parameter's name is taken already
    assert same.objective(weights) == pytest.approx(problem.objective(weights), rel=1e-12)


def test_a_warm_start_is_never_worse() -> None:
    problem = make_layer(2, sizes=(2,) * 9, strength=2.0, samples=40)
    for point in solution_path(problem, counts=[2, 3, 4, 5], gap=GAP):
        alone = solve_exact(replace(problem, at_most=point.parameter), gap=GAP)
        assert point.result.objective <= alone.objective * (1 + GAP)


def test_a_count_that_does_not_bind_is_answered_without_a_search() -> None:
    problem = make_layer(1, sizes=(2,) * 6, strength=8.0)
    free = solve_exact(problem, gap=GAP)
    used = int(np.count_nonzero(free.indicators))
    assert 1 <= used < 6
    points = solution_path(problem, counts=[used, used + 1, 6], gap=GAP)
    assert [point.result.nodes > 0 for point in points] == [False, False, True]
    for point in points:
        agree(replace(problem, at_most=point.parameter), point.result)


def test_a_strength_inherits_no_bound() -> None:
    """The certificate of another strength proves nothing: its curvature belongs to another ridge."""
    problem = make_layer(1, sizes=(2,) * 6, strength=1e4)
    points = solution_path(problem, strengths=[1e4, 2e4], gap=GAP)
    assert all(point.result.nodes > 0 for point in points)
    assert points[0].result.certificate is not points[1].result.certificate


def test_an_interrupted_point_keeps_its_own_status() -> None:
    random = np.random.default_rng(0)
    X = random.standard_normal((90, 80)) + random.standard_normal((90, 1))
    Y = X @ (random.standard_normal(80) * (random.random(80) < 0.5)) + 6 * random.standard_normal(90)
    problem = LayerProblem(X, Y, np.repeat(np.arange(40), 2), make_layer(0, bound=None).regulariser, 1.0)
    points = solution_path(problem, counts=[8, 12, 40], gap=1e-8, time_limit=0.02, strengthen="none")
    assert "time_limit" in {point.result.status for point in points}
    objectives = [point.result.objective for point in points]
    bounds = [point.result.lower_bound for point in points]
    assert objectives == sorted(objectives, reverse=True)
    assert bounds == sorted(bounds, reverse=True)
    for point in points:
        here = replace(problem, at_most=point.parameter)
        assert point.result.certificate is not None
        point.result.certificate.check(here)
        assert here.objective(point.result.weights) == pytest.approx(point.result.objective, rel=1e-12)
        assert (point.result.status == "optimal") == (point.result.gap <= 1e-8)


def test_inheriting_along_a_falling_bound_is_exposed() -> None:
    """Solved in the wrong order a neighbour's bound is no bound here; its certificate says so."""
    problem = make_layer(1, sizes=(2,) * 6, strength=0.5)
    tight = solve_exact(replace(problem, at_most=1), gap=GAP)
    loose = replace(problem, at_most=6)
    wrong = path.adopt_bound(loose, solve_exact(loose, gap=GAP), tight, GAP)
    assert wrong.certificate is tight.certificate
    with pytest.raises(CheckFailed, match=r"cover|proves"):
        wrong.certificate.check(loose)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({}, "exactly one"),
        ({"counts": [1], "prices": [1.0]}, "exactly one"),
        ({"counts": []}, "empty"),
        ({"counts": 3}, "sequence"),
        ({"counts": [1.5]}, "whole numbers"),
        ({"counts": [True]}, "whole numbers"),
        ({"counts": [0]}, "between 1 and 4"),
        ({"counts": [2, 5]}, "between 1 and 4"),
        ({"prices": [1.0, 0.0]}, "positive"),
        ({"prices": [float("nan")]}, "positive"),
        ({"prices": "12"}, "sequence"),
        ({"strengths": [-1.0]}, "positive"),
        ({"strengths": [None]}, "positive"),
        ({"counts": [1], "gap": 2.0}, "gap"),
        ({"counts": [1], "time_limit": 0.0}, "time_limit"),
        ({"counts": [1], "strengthen": "more"}, "strengthening"),
    ],
)
def test_bad_input_is_one_sentence(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        solution_path(make_layer(0), **asked)
    assert "\n" not in str(caught.value)
