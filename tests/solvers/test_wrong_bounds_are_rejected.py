"""The dual bound is below every value (weak duality) and reaches the relaxation; each wrong formula breaks one of them."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import CASES, make_layer

from solvers import LayerProblem, dual, solve_relaxation
from solvers.dual import FREE, OFF, ON, dual_value, group_terms
from solvers.fit import fit_support
from solvers.projected import minimise
from solvers.reduced import reduce

HARD = ["plain", "no box", "box binds", "several outputs", "elastic cost, box binds, outputs", "unequal groups"]


def restricted_optimum(problem: LayerProblem, states: np.ndarray) -> float:
    reduced = reduce(problem)
    choices = [(False, True) if s == FREE else (s == ON,) for s in states]
    return min(fit_support(reduced, np.array(support)).primal for support in product(*choices))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    case=st.sampled_from(HARD),
    seed=st.integers(0, 10**6),
    size=st.floats(0.01, 3.0),
    fixed=st.lists(st.sampled_from([OFF, FREE, ON]), min_size=4, max_size=4),
    noise=st.floats(0, 1),
)
def test_any_dual_point_is_below(case: str, seed: int, size: float, fixed: list[int], noise: float) -> None:
    problem = make_layer(seed, **CASES[case])
    states = np.array(fixed, dtype=np.int8)
    random = np.random.default_rng(seed)
    U = -2 * size * problem.targets2d * (1 + noise * random.standard_normal(problem.targets2d.shape))
    found = dual_value(problem, U, states)
    assert found.value - found.error <= restricted_optimum(problem, states) * (1 + 1e-9)


@pytest.mark.parametrize("case", HARD)
def test_the_bound_is_tight_at_a_nodes_optimum(case: str) -> None:
    problem = make_layer(21, **CASES[case])
    reduced = reduce(problem)
    for fixed in ([FREE] * 4, [ON, FREE, OFF, FREE], [ON, OFF, ON, OFF]):
        states = np.array(fixed, dtype=np.int8)
        point = minimise(reduced, states, reduced.zero(), tolerance=1e-10)
        found = dual_value(problem, reduced.dual_point(point.weights, point.scale), states)
        assert found.value == pytest.approx(point.primal, rel=1e-9)
        assert found.error < 1e-10 * abs(point.primal)


def no_price(r: Any, z: Any, states: Any, relaxation: Any) -> Any:
    on = np.sum(r.cost_conjugate(z), axis=1)
    return np.select([states == OFF, states == ON], [0 * on, on], on), on


def no_max(r: Any, z: Any, states: Any, relaxation: Any) -> Any:
    on = np.sum(r.cost_conjugate(z), axis=1) - r.price
    return np.where(states == OFF, 0, on), abs(on)


def wrong_sign(r: Any, z: Any, states: Any, relaxation: Any) -> Any:
    terms, size = group_terms(r, z, states, relaxation)
    return -terms, size


def unscaled_strength(r: Any, z: Any, states: Any, relaxation: Any) -> Any:
    return group_terms(r, z * 0.9, states, relaxation)


def off_treated_as_free_is_weak(r: Any, z: Any, states: Any, relaxation: Any) -> Any:
    return group_terms(r, z, np.where(states == OFF, FREE, states), relaxation)


def on_treated_as_off(r: Any, z: Any, states: Any, relaxation: Any) -> Any:
    return group_terms(r, z, np.where(states == ON, OFF, states), relaxation)


def box_forgotten(r: Any, z: Any, states: Any, relaxation: Any) -> Any:
    a, b = r.quadratic
    on = np.sum(np.maximum(z - b, 0) ** 2 / (4 * a), axis=1) - r.price
    return np.select([states == OFF, states == ON], [0 * on, on], np.maximum(on, 0)), abs(on)


def half_conjugate(r: Any, z: Any, states: Any, relaxation: Any) -> Any:
    on = 0.5 * np.sum(r.cost_conjugate(z), axis=1) - r.price
    return np.select([states == OFF, states == ON], [0 * on, on], np.maximum(on, 0)), abs(on)


@pytest.fixture(scope="module")
def solved_nodes() -> list[tuple[LayerProblem, np.ndarray, np.ndarray, float]]:
    """(problem, states, dual point, optimal value) of nodes whose bound must come out tight."""
    nodes = []
    for case in ("plain", "no box", "box binds", "everything too dear"):
        problem = make_layer(21, **CASES[case])
        reduced = reduce(problem)
        for fixed in ([FREE] * 4, [ON, FREE, OFF, FREE], [ON, OFF, ON, OFF]):
            states = np.array(fixed, dtype=np.int8)
            point = minimise(reduced, states, reduced.zero(), tolerance=1e-10)
            nodes.append((problem, states, reduced.dual_point(point.weights, point.scale), point.primal))
    return nodes


def holds(nodes: list[tuple[LayerProblem, np.ndarray, np.ndarray, float]]) -> bool:
    found = [dual_value(problem, point, states).value for problem, states, point, _ in nodes]
    return bool(np.allclose(found, [primal for *_, primal in nodes], rtol=1e-7))


@pytest.mark.parametrize(
    "mutant",
    [
        no_price,
        no_max,
        wrong_sign,
        unscaled_strength,
        off_treated_as_free_is_weak,
        on_treated_as_off,
        box_forgotten,
        half_conjugate,
    ],
)
def test_wrong_formulas_are_rejected(
    mutant: Callable[..., Any], solved_nodes: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert holds(solved_nodes)
    monkeypatch.setattr(dual, "group_terms", mutant)
    assert not holds(solved_nodes)


@pytest.mark.parametrize("case", HARD)
def test_big_m_certificate_proves_the_big_m_relaxation(case: str) -> None:
    """Its own dual: reaches the big-M value and never exceeds it, though the perspective's bound would."""
    problem = make_layer(9, **CASES[case])
    result = solve_relaxation(problem, "big_m")
    assert result.certificate.relaxation == "big_m"
    assert result.lower_bound <= result.objective
    assert result.gap <= 1e-6
