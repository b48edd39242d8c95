"""The split search finds the optimum of every small problem, whatever the strengthening, and proves it."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from layer_cases import make_layer, make_regulariser
from split_cases import DIFFICULTIES, random_layer, true_optimum

from perspective.errors import InputError
from solvers import LayerProblem, Result, solve_exact
from solvers.exact import STRENGTHENINGS

GAP = 1e-6
PROBLEMS = 66


def agree(problem: LayerProblem, result: Result, truth: float) -> None:
    """Optimal, the true value, a bound below it, and a certificate that holds."""
    assert result.status == "optimal"
    assert truth * (1 - 1e-9) <= result.objective <= truth * (1 + GAP)
    assert result.lower_bound <= truth * (1 + 1e-12)
    assert result.gap <= GAP
    assert result.objective == problem.objective(result.weights)
    assert np.array_equal(problem.kept(result.weights), result.indicators)
    assert result.certificate is not None
    assert result.certificate.bound == result.lower_bound
    result.certificate.check(problem)


def keep_history(result: Result) -> None:
    """Time and bound never fall, the value never rises, and the last line is the answer."""
    assert result.history
    for before, after in pairwise(result.history):
        assert after[0] >= before[0]
        assert after[1] <= before[1]
        assert after[2] >= before[2] - 1e-9 * abs(before[2])
    assert result.history[-1][1:] == (result.objective, result.lower_bound)


@pytest.mark.parametrize("seed", range(PROBLEMS))
def test_every_strengthening_finds_the_optimum_of_random_layers(seed: int) -> None:
    problem = random_layer(seed)
    truth = true_optimum(problem)
    for strengthen in STRENGTHENINGS:
        result = solve_exact(problem, gap=GAP, backend="branch", strengthen=strengthen)
        agree(problem, result, truth)
        keep_history(result)


@pytest.mark.parametrize("case", DIFFICULTIES)
@pytest.mark.parametrize("at_most", [None, 1])
def test_difficult_layers_too(case: str, at_most: int | None) -> None:
    problem = replace(make_layer(9, **DIFFICULTIES[case]), at_most=at_most)
    truth = true_optimum(problem)
    for strengthen in STRENGTHENINGS:
        agree(problem, solve_exact(problem, gap=GAP, backend="branch", strengthen=strengthen), truth)


@pytest.mark.parametrize("seed", range(4))
def test_the_enumeration_backend_agrees(seed: int) -> None:
    problem = random_layer(seed)
    slow = solve_exact(problem, gap=GAP, backend="enumerate")
    agree(problem, solve_exact(problem, gap=GAP), slow.objective)


@pytest.mark.parametrize("outputs", [2, 3])
def test_a_box_that_cuts_rotated_outputs_is_the_layers_own(outputs: int) -> None:
    """A rotated output may pass M where no output of the layer does: clusters may not use the box as if it were theirs."""
    for seed in (45, 50, 52):
        problem = make_layer(seed, sizes=(2, 1, 3), outputs=outputs, bound=0.1, strength=1.0 + seed % 5)
        agree(problem, solve_exact(problem, gap=GAP, strengthen="blocks"), true_optimum(problem))


@pytest.mark.parametrize("count", range(1, 7))
def test_a_count_is_held_exactly(count: int) -> None:
    problem = replace(make_layer(1, sizes=(2,) * 6, strength=0.01), at_most=count)  # groups are cheap: the count binds
    result = solve_exact(problem, gap=GAP)
    agree(problem, result, true_optimum(problem))
    assert np.count_nonzero(result.indicators) == count


@pytest.mark.parametrize("seed", range(12))
def test_the_box_is_noted_exactly_where_a_weight_touches_it(seed: int) -> None:
    free = make_layer(seed, bound=None)
    largest = float(np.max(np.abs(solve_exact(free, gap=GAP).weights)))
    for factor, touches in ((1.01, False), (0.8, True)):
        if largest == 0.0:
            continue
        problem = replace(free, regulariser=make_regulariser(bound=factor * largest))
        result = solve_exact(problem, gap=GAP)
        edge = np.abs(result.weights) >= factor * largest * (1 - 1e-9)
        assert bool(result.notes) == bool(np.any(edge))
        if not touches:
            assert result.notes == ()
        if result.notes:
            assert f"{np.count_nonzero(edge)} weights are at M" in result.notes[0]


def test_a_singular_gram_matrix_is_one_sentence() -> None:
    across = make_layer(0, duplicate=True, scale=1e6, bound=1.5e-6, alpha=0.5)
    inside = LayerProblem(1e9 * np.ones((5, 3)), np.arange(5.0), [0, 0, 1], across.regulariser, 1.0)
    outputs = LayerProblem(inside.X, np.outer(inside.Y, [1.0, 2.0]), [0, 0, 1], across.regulariser, 1.0)
    for problem in (across, inside, outputs):
        for strengthen in STRENGTHENINGS:
            with pytest.raises(InputError, match="larger alpha"):
                solve_exact(problem, backend="branch", strengthen=strengthen)


@pytest.fixture(scope="module")
def long_problem() -> LayerProblem:
    random = np.random.default_rng(4)
    X = random.standard_normal((120, 100)) + random.standard_normal((120, 1))
    Y = X @ (random.standard_normal(100) * (random.random(100) < 0.4)) + 8 * random.standard_normal(120)
    return LayerProblem(X, Y, np.repeat(np.arange(50), 2), make_regulariser(bound=2.0), 60.0)


@pytest.mark.parametrize("at_most", [None, 9])
def test_an_interrupted_search_tells_the_truth(long_problem: LayerProblem, at_most: int | None) -> None:
    problem = replace(long_problem, at_most=at_most)
    good = solve_exact(problem, gap=1e-3, time_limit=1.0).objective
    for strengthen, limit in product(STRENGTHENINGS, (0.001, 0.05)):
        result = solve_exact(problem, gap=1e-8, time_limit=limit, strengthen=strengthen)
        assert result.status == "time_limit"
        assert result.seconds < limit + 1.0
        assert result.objective == problem.objective(result.weights)
        assert np.isfinite(result.objective)
        assert 0 <= result.lower_bound <= good * (1 + 1e-12)
        assert result.gap > 1e-8
        assert result.certificate is not None
        result.certificate.check(problem)
        keep_history(result)
