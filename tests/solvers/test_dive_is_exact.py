"""The compiled search for one output finds and proves the optimum, hands over what is not its business, and cannot lie.

Mutants of the search and of the curvature it starts from: no wrong value comes with a certificate that holds.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from layer_cases import make_layer, make_regulariser
from split_cases import DIFFICULTIES, found_out, true_optimum

from solvers import LayerProblem, Result, solve_exact
from solvers.split import search, single
from solvers.split.program import split_problem
from solvers.split.single import dive_single

GAP = 1e-6


def single_layer(seed: int, **changes: Any) -> LayerProblem:
    """One output; 4 to 9 groups of 1 to 3, so that something is left to branch on."""
    random = np.random.default_rng(seed)
    sizes = tuple(int(n) for n in random.integers(1, 4, size=random.integers(4, 10)))
    strength = float(10 ** random.uniform(-0.5, 1.2))
    return make_layer(seed, **{"sizes": sizes, "samples": 20, "strength": strength, "bound": None, **changes})


def agree(problem: LayerProblem, result: Result, truth: float) -> None:
    assert result.status == "optimal"
    assert truth * (1 - 1e-9) <= result.objective <= truth * (1 + GAP)
    assert result.lower_bound <= truth * (1 + 1e-12)
    assert result.objective == problem.objective(result.weights)
    assert np.array_equal(problem.kept(result.weights), result.indicators)
    assert result.history[-1][1:] == (result.objective, result.lower_bound)
    assert result.certificate is not None
    result.certificate.check(problem)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The general search must not be asked."""

    def refuse(*asked: Any) -> None:
        raise AssertionError("the general search was asked")

    monkeypatch.setattr(search, "grow_split_tree", refuse)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("seed", range(40))
def test_the_dive_alone_proves_the_optimum(seed: int) -> None:
    problem = single_layer(seed, bound=(None, 50.0)[seed % 2])
    agree(problem, solve_exact(problem, gap=GAP), true_optimum(problem))


@pytest.mark.usefixtures("alone")
def test_some_dives_branch() -> None:
    assert max(solve_exact(single_layer(seed), gap=GAP).nodes for seed in range(8)) > 3


@pytest.mark.parametrize("case", DIFFICULTIES)
def test_difficult_layers_too(case: str) -> None:
    problem = make_layer(9, **{**DIFFICULTIES[case], "outputs": 0})
    agree(problem, solve_exact(problem, gap=GAP), true_optimum(problem))


@pytest.mark.parametrize("seed", range(6))
def test_a_box_that_binds_is_handed_over(seed: int) -> None:
    problem = single_layer(seed, bound=0.2)
    agree(problem, solve_exact(problem, gap=GAP), true_optimum(problem))


def test_the_start_is_worth_a_look_and_no_more() -> None:
    problem = single_layer(3)
    p = problem.n_groups
    for start in (np.zeros(p, dtype=bool), np.ones(p, dtype=bool)):
        kept = start.copy()
        agree(problem, search.solve_split(problem, GAP, 60.0, "blocks", (start,)), true_optimum(problem))
        assert np.array_equal(start, kept)


def test_no_time_is_no_dive() -> None:
    split = split_problem(single_layer(0), 1)
    support, found = dive_single(split, GAP, 1e-7, ())
    assert found is None
    assert support.shape == (len(split.whitener),)


def test_a_dive_that_is_cut_short_claims_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = next(p for p in map(single_layer, range(40)) if solve_exact(p, gap=GAP).nodes > 3)
    monkeypatch.setattr(single, "MOST", 1)
    assert dive_single(split_problem(problem, 1), GAP, 60.0, ())[1] is None
    agree(problem, solve_exact(problem, gap=GAP), true_optimum(problem))


DIVE, AIM, FIT, IMPROVE = single.dive, single.aim_curvature, search.fit_on, single.improve_support


def change_answer(place: int, change: Any) -> Any:
    """The dive with one of its answers changed: 2 closed, 3 closers, 4 bounds, 5 states, 6 y, 7 E."""

    def wrong(*asked: Any) -> Any:
        answer = list(DIVE(*asked))
        answer[place] = change(answer[place])
        return tuple(answer)

    return wrong


def drop_leaf(*asked: Any) -> Any:
    done, nodes, closed, closers, bounds, *points = DIVE(*asked)
    left = max(len(closed) - 1, 1)
    return done, nodes, closed[:left], closers[:left], bounds[:left], *points


def cut_wide(*asked: Any) -> Any:
    """Cuts off what is within 30 % of the best value, and says the bound is as good."""
    *rest, _, most, floor, margin = asked
    answer = list(DIVE(*rest, 0.3, most, floor, margin))
    answer[4] = np.full_like(answer[4], np.inf)
    return tuple(answer)


def aim_far(A: Any, b: Any, s: Any, price: Any, smallest: Any, support: Any, out: Any) -> bool:
    """Blocks outside the cone: too good to be true."""
    ok = AIM(A, b, s, price, smallest, support, out)
    out += np.eye(out.shape[-1])
    return ok


def empty_support(A: Any, b: Any, s: Any, price: Any, support: Any) -> None:
    support[:] = False


MUTANTS: dict[str, tuple[Any, str, Any]] = {
    "a leaf dropped": (single, "dive", drop_leaf),
    "states turned": (single, "dive", change_answer(2, lambda closed: -closed)),
    "bounds too good": (single, "dive", change_answer(4, lambda bounds: bounds * 1.05)),
    "bounds forgotten": (single, "dive", change_answer(4, lambda bounds: bounds + np.inf)),
    "the root's point for all": (single, "dive", change_answer(3, np.zeros_like)),
    "other indicators": (single, "dive", change_answer(6, lambda y: np.full_like(y, 0.5))),
    "more curvature than there is": (single, "dive", change_answer(7, lambda E: E + np.eye(E.shape[-1]))),
    "less curvature": (single, "dive", change_answer(7, lambda E: 1e-3 * E)),
    "a wide cutoff": (single, "dive", cut_wide),
    "aimed out of the cone": (single, "aim_curvature", aim_far),
}
HARMLESS: dict[str, tuple[Any, str, Any]] = {
    "half of the weights": (search, "fit_on", lambda *asked: 0.5 * FIT(*asked)),
    "a poor support": (single, "improve_support", empty_support),
    "never done": (single, "dive", change_answer(0, lambda done: False)),
}
LAYERS = tuple((problem, true_optimum(problem)) for problem in map(single_layer, range(12)))


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_dive_is_found_out(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*MUTANTS[mutant])
    assert any([found_out(solve_exact(problem, gap=GAP), problem, truth, GAP) for problem, truth in LAYERS])


@pytest.mark.parametrize("mutant", HARMLESS)
def test_a_weak_start_is_slower_not_wrong(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*HARMLESS[mutant])
    for problem, truth in LAYERS:
        agree(problem, solve_exact(problem, gap=GAP), truth)


def test_a_count_or_a_second_output_is_not_its_business(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*asked: Any) -> None:
        raise AssertionError("the dive was asked")

    monkeypatch.setattr(search, "dive_single", refuse)
    counted, two = replace(single_layer(1), at_most=2), make_layer(1, outputs=2, bound=None)
    free = replace(make_layer(2), regulariser=make_regulariser(bound=None))
    for problem, strengthen in ((counted, None), (two, None), (free, "uniform")):
        agree(problem, solve_exact(problem, gap=GAP, strengthen=strengthen), true_optimum(problem))
