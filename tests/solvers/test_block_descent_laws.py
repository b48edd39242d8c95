"""Block coordinate descent finds the projected relaxation, is believed only through the certificate, and mutants fail."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import CASES, make_layer, make_regulariser

from perspective import declare, derive
from solvers import LayerProblem, block_kernel, descend_blocks, projected, solve_relaxation
from solvers.block_kernel import look, shrink_block
from solvers.dual import FREE, OFF, ON, dual_value
from solvers.extrapolate import MEMORY, extrapolate
from solvers.gram import block_curvatures, form_gram
from solvers.projected import descend
from solvers.reduced import reduce
from solvers.shrink import shrink


def declared(problem: LayerProblem) -> tuple[float, ...]:
    r = problem.regulariser
    return (problem.strength, *r.quadratic, r.price, np.inf if r.bound is None else r.bound)


def free(problem: LayerProblem) -> np.ndarray:
    return np.full(problem.n_groups, FREE, dtype=np.int8)


@pytest.mark.parametrize("case", CASES)
def test_its_value_is_the_conic_solvers(case: str) -> None:
    problem = make_layer(5, **CASES[case])
    assert descend_blocks.can_descend_blocks(problem)
    found = descend_blocks.descend_blocks(problem, free(problem), tolerance=1e-9)
    assert found.gap <= 1e-9
    assert problem.relaxed(found.weights) == pytest.approx(solve_relaxation(problem, "cone").objective, rel=1e-6)
    dual = dual_value(problem, problem.measure.gradient(problem.X @ found.weights, problem.targets2d), free(problem))
    assert problem.relaxed(found.weights) - dual.value <= 3e-9 * problem.relaxed(found.weights)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    case=st.sampled_from(sorted(CASES)),
    seed=st.integers(0, 10**6),
    fixed=st.lists(st.sampled_from([OFF, FREE, ON]), min_size=6, max_size=6),
    strength=st.floats(0.05, 50),
)
def test_its_value_is_the_first_order_methods_with_groups_fixed(
    case: str, seed: int, fixed: list[int], strength: float
) -> None:
    problem = make_layer(seed, **(CASES[case] | {"strength": strength}))
    states = np.array(fixed[: problem.n_groups], dtype=np.int8)
    reduced = reduce(problem)
    other = descend(reduced, states, reduced.zero(), tolerance=1e-9)
    found = descend_blocks.descend_blocks(problem, states, tolerance=1e-9)
    if found.gap > 1e-9:  # it may give up: `solve_projected` then goes on with the first-order method
        assert projected.evaluate(reduced, states, found.weights)[0] >= other.dual * (1 - 1e-9)
        return
    assert projected.evaluate(reduced, states, found.weights)[0] == pytest.approx(other.primal, rel=1e-8)
    assert np.all(found.weights[(states == OFF)[problem.labels]] == 0)


@pytest.mark.parametrize("power", [-6, 6])
def test_other_units_change_nothing(power: int) -> None:
    unit, plain = 10.0**power, make_layer(8, sizes=(3, 1, 2, 4), bound=0.4, outputs=2)
    regulariser = derive(declare("a*s**2", price="c", bound="M"))
    truth, half = solve_relaxation(plain).objective, 0.5 * plain.strength  # alpha is one half
    other_targets = regulariser.bind(a=half, c=half * unit**2, M=0.4 * unit)
    other_inputs = regulariser.bind(a=half * unit**2, c=half, M=0.4 / unit)
    for problem, value in (
        (LayerProblem(plain.X, unit * plain.Y, plain.labels, other_targets, 1.0), unit**2 * truth),
        (LayerProblem(unit * plain.X, plain.Y, plain.labels, other_inputs, 1.0), truth),
    ):
        found = descend_blocks.descend_blocks(problem, free(problem), tolerance=1e-9)
        assert found.gap <= 1e-9
        assert problem.relaxed(found.weights) == pytest.approx(value, rel=1e-8)


def test_the_order_of_the_features_does_not_matter() -> None:
    problem = make_layer(8, sizes=(3, 1, 2, 4), bound=0.4)
    shuffled = np.random.default_rng(0).permutation(10)
    mixed = LayerProblem(
        problem.X[:, shuffled], problem.Y, problem.labels[shuffled], problem.regulariser, problem.strength
    )
    one, other = solve_relaxation(problem), solve_relaxation(mixed)
    assert one.objective == pytest.approx(other.objective, rel=1e-8)
    np.testing.assert_allclose(other.weights, one.weights[shuffled], atol=1e-4)


@pytest.mark.parametrize("size", [1, 4])
def test_more_unknowns_than_samples_with_a_box_that_binds(size: int) -> None:
    problem = make_layer(4, sizes=(size,) * (128 // size), samples=60, bound=0.3, strength=20.0, alpha=0.1)
    result = solve_relaxation(problem)
    at_box = np.abs(result.weights) >= 0.3 * result.indicators[problem.labels] * (1 - 1e-9)
    assert np.any(at_box & (result.weights != 0))
    assert result.status == "optimal"
    assert result.gap <= 1e-9
    result.certificate.check(problem)
    reduced = reduce(problem)
    other = descend(reduced, free(problem), reduced.zero(), tolerance=1e-7)
    assert other.dual * (1 - 1e-9) <= result.objective <= other.primal * (1 + 1e-9)


def test_targets_of_zero_have_a_relaxation_of_zero() -> None:
    problem = replace(make_layer(2), targets=np.zeros(25))
    result = solve_relaxation(problem)
    assert result.objective == 0 == np.max(np.abs(result.weights))


def test_only_what_it_solves_is_given_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("block descent was asked")

    monkeypatch.setattr(projected, "descend_blocks", refuse)
    problem = make_layer(3)
    for other in (
        replace(problem, at_most=2),
        replace(problem, loss="absolute"),
        replace(problem, loss="logistic", targets=np.sign(problem.Y)),
    ):
        assert not descend_blocks.can_descend_blocks(other)
        assert solve_relaxation(other).status == "optimal"
    with pytest.raises(AssertionError):
        solve_relaxation(problem)


@pytest.mark.parametrize("gap", [0.0, np.inf, np.nan])
def test_weights_that_are_wrong_are_not_believed(gap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make_layer(3, bound=0.3)
    truth = solve_relaxation(problem, "cone").objective

    def lie(problem: LayerProblem, states: Any, **_: Any) -> descend_blocks.Descended:
        return descend_blocks.Descended(np.full((8, 1), 0.2), gap, 5)

    monkeypatch.setattr(projected, "descend_blocks", lie)
    result = solve_relaxation(problem)
    assert result.status == "optimal"
    assert result.objective == pytest.approx(truth, rel=1e-6)
    result.certificate.check(problem)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    size=st.floats(1e-3, 1e3),
    step=st.floats(1e-3, 1e3),
    bound=st.sampled_from([None, 0.2, 2.0]),
    beta=st.sampled_from([None, 0.4]),
    guess=st.floats(0, 1),
)
def test_a_blocks_step_is_the_derived_prox(
    seed: int, size: float, step: float, bound: float | None, beta: float | None, guess: float
) -> None:
    r = make_regulariser(bound=bound, beta=beta)
    v, out = size * np.random.default_rng(seed).standard_normal(4), np.empty(4)
    numbers = (1.0, *r.quadratic, r.price, np.inf if bound is None else bound)
    y = shrink_block(v, out, 4, step, numbers, FREE, guess)
    np.testing.assert_allclose(out, r.prox(v, np.array(step)), rtol=1e-9, atol=1e-12 * size)
    assert y == pytest.approx(r.indicator(out), rel=1e-9, abs=1e-12)
    shrink_block(v, out, 4, step, numbers, ON, guess)
    np.testing.assert_allclose(out, shrink(r, v[None], np.array([step]))[0], rtol=1e-12, atol=1e-300)
    assert shrink_block(v, out, 4, step, numbers, OFF, guess) == 0 == np.max(np.abs(out))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(case=st.sampled_from(sorted(CASES)), seed=st.integers(0, 10**6), fill=st.floats(0, 1), on=st.booleans())
def test_the_gap_it_sees_is_value_less_dual_value(case: str, seed: int, fill: float, on: bool) -> None:
    problem = make_layer(seed, **CASES[case])
    random, gram = np.random.default_rng(seed), form_gram(problem)
    bound = 1.0 if problem.regulariser.bound is None else problem.regulariser.bound
    W = random.uniform(-bound, bound, size=gram.B.shape) * (random.random((len(gram.B), 1)) < fill)
    states = np.full(problem.n_groups, ON if on else FREE, dtype=np.int8)
    primal, gap = look(W, gram.G @ W - gram.B, gram.B, gram.begins, gram.squares, declared(problem), states)
    weights = np.empty_like(W)
    weights[gram.order] = W
    value = problem.objective(problem.shaped(weights), np.ones(problem.n_groups)) if on else problem.relaxed(weights)
    dual = dual_value(problem, problem.measure.gradient(problem.X @ weights, problem.targets2d), states).value
    assert primal == pytest.approx(value, rel=1e-9)
    assert gap == pytest.approx(value - dual, rel=1e-6, abs=1e-9 * (abs(value) + abs(dual)))


@pytest.mark.parametrize("case", CASES)
def test_curvatures_bound_every_block_closely(case: str) -> None:
    problem = make_layer(2, **CASES[case])
    gram = form_gram(problem)
    found = block_curvatures(gram.G, gram.begins)
    for j, members in enumerate(problem.members):
        largest = np.linalg.norm(problem.X[:, members], 2) ** 2
        assert found[j] >= largest * (1 - 1e-12)
        assert found[j] <= largest * len(members) ** (1 / 16) * (1 + 1e-12) or largest == 0


def test_extrapolation_ends_a_linear_iteration_at_once() -> None:
    random = np.random.default_rng(1)
    A, limit = 0.9 * np.diag(random.random(3)), random.standard_normal(3)
    past, mixed = np.empty((MEMORY + 1, 3)), np.empty(3)
    past[0] = 5.0
    for k in range(MEMORY):
        past[k + 1] = limit + A @ (past[k] - limit)
    assert extrapolate(past, np.inf, mixed)
    np.testing.assert_allclose(mixed, limit, atol=1e-4)
    assert extrapolate(past, 0.1, mixed)
    assert np.max(np.abs(mixed)) <= 0.1
    assert not extrapolate(np.ones_like(past), np.inf, mixed)


def wrong_step(factor: float) -> Callable[..., float]:
    def shrink_wrongly(v: Any, out: Any, n: int, step: float, numbers: Any, state: int, y: float) -> float:
        return float(shrink_block(v, out, n, factor * step, numbers, state, y))

    return shrink_wrongly


def without_box(v: Any, out: Any, n: int, step: float, numbers: Any, state: int, y: float) -> float:
    return float(shrink_block(v, out, n, step, (*numbers[:4], np.inf), state, y))


def never_zero(v: Any, out: Any, n: int, step: float, numbers: Any, state: int, y: float) -> float:
    return float(shrink_block(v, out, n, step, numbers, ON, y))


def half_priced(v: Any, out: Any, n: int, step: float, numbers: Any, state: int, y: float) -> float:
    return float(shrink_block(v, out, n, step, (*numbers[:3], numbers[3] / 2, numbers[4]), state, y))


@pytest.mark.parametrize(
    "mutant",
    [None, wrong_step(0.5), wrong_step(2.0), without_box, never_zero, half_priced],
    ids=["right", "half a step", "two steps", "no box", "never zero", "half the price"],
)
def test_wrong_steps_are_exposed(mutant: Callable[..., float] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel in plain Python with one function wrong: its own look at the gap never closes."""
    problem = make_layer(3, bound=0.3)
    for name in ("sweep_rounds", "sweep", "half_gradient", "copy_numbers"):
        monkeypatch.setattr(block_kernel, name, getattr(block_kernel, name).py_func)
    monkeypatch.setattr(descend_blocks, "sweep_rounds", block_kernel.sweep_rounds)
    if mutant is not None:
        monkeypatch.setattr(block_kernel, "shrink_block", mutant)
    found = descend_blocks.descend_blocks(problem, free(problem), tolerance=1e-8)
    assert (found.gap <= 1e-8) == (mutant is None)
