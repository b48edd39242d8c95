"""The ReLU bound is below every value for any dual point and tight at a solved node; each wrong formula breaks one of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from relu_cases import CASES, make_relu_layer, optimum_by_patterns

from solvers import LayerProblem
from solvers.dual import FREE, OFF, ON
from solvers.relu import certificate as relu_certificate
from solvers.relu import ranges as relu_ranges
from solvers.relu.certificate import relu_dual_value
from solvers.relu.incumbent import Incumbent
from solvers.relu.loss import least_tilted, relu_loss, split
from solvers.relu.ranges import Ranges
from solvers.relu.tree import grow_relu_tree

HARD = ["plain", "two outputs", "box binds", "no box", "negative targets", "at most one"]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), case=st.sampled_from(HARD), size=st.floats(0.01, 3.0), data=st.data())
def test_any_dual_point_is_below_every_point_of_its_leaf(
    seed: int, case: str, size: float, data: st.DataObject
) -> None:
    """Random feasible weights, random dual point, and a random leaf that holds these weights."""
    problem, random = make_relu_layer(seed, **CASES[case]), np.random.default_rng(seed)
    count = problem.at_most or problem.n_groups
    kept = np.isin(np.arange(3), random.permutation(3)[: random.integers(0, count + 1)])
    bound = problem.regulariser.bound or 2.0
    shape = (problem.X.shape[1], problem.targets2d.shape[1])
    weights = random.uniform(-bound, bound, shape) * random.random() * kept[problem.labels][:, None]
    value, z = problem.objective(weights), problem.X @ weights
    states = np.where(random.random(3) < 0.5, FREE, np.where(kept, ON, OFF)).astype(np.int8)
    value += problem.strength * problem.regulariser.price * np.count_nonzero((states == ON) & ~problem.kept(weights))
    signs = np.where(random.random(z.shape) < 0.5, FREE, np.where(z > 0, ON, OFF)).astype(np.int8)
    low, high = Ranges(problem, value).of(states)
    assert np.all((low <= z + 1e-9) & (z <= high + 1e-9))
    noise = data.draw(st.floats(0, 2))
    U = -2 * size * problem.targets2d + noise * random.standard_normal(z.shape)
    found = relu_dual_value(problem, U, states, signs, low, high)
    assert found.value - found.error <= value * (1 + 1e-9)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    target=st.floats(-2, 2),
    low=st.floats(-5, 0),
    high=st.floats(0, 5),
    tilt=st.floats(-8, 8),
    sign=st.sampled_from([OFF, FREE, ON]),
)
def test_envelope_and_conjugate_equal_a_fine_grid(
    target: float, low: float, high: float, tilt: float, sign: int
) -> None:
    """The envelope lies below the loss, and both have the same conjugate: the one a grid gives."""
    Y, lo, hi, U = (np.array([[v]]) for v in (target, low, high, tilt))
    signs = np.array([[sign]], dtype=np.int8)
    z = np.append(np.linspace(low if sign != ON else 0.0, high if sign != OFF else 0.0, 4001), 0.0)
    truth = np.min(relu_loss(z, target) - tilt * z)
    found = least_tilted(Y, lo, hi, signs, U)[0, 0]
    assert truth - 1e-4 <= found <= truth + 1e-9
    if target > 0 or sign == FREE:
        below = split(Y, lo, hi, signs).value(z[:, None])[:, 0]
        assert np.all(below <= relu_loss(z, target) + 1e-9)
        assert np.min(below - tilt * z) == pytest.approx(truth, abs=1e-4)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    target=st.floats(-2, 2),
    low=st.floats(-5, 0),
    high=st.floats(0, 5),
    x=st.floats(-6, 6),
    weight=st.floats(0.05, 20),
    sign=st.sampled_from([OFF, FREE, ON]),
    strict=st.booleans(),
)
def test_the_prox_is_the_minimiser_on_a_fine_grid(
    target: float, low: float, high: float, x: float, weight: float, sign: int, strict: bool
) -> None:
    Y, lo, hi = (np.array([[v]]) for v in (target, low, high))
    pieces = split(Y, lo, hi, np.array([[sign]], dtype=np.int8), strict)
    z = np.linspace(pieces.low[0, 0], pieces.high[0, 0], 4001)[:, None]
    values = pieces.value(z) + 0.5 * weight * (z - x) ** 2
    point = pieces.prox(np.array([[x]]), weight)
    assert (pieces.value(point) + 0.5 * weight * (point - x) ** 2)[0, 0] <= np.min(values) + 1e-9


def holds(cases: list[tuple[LayerProblem, float]]) -> bool:
    """Every tree closes the gap, its bound is below the truth, and the truth is reached."""
    for problem, truth in cases:
        incumbent = Incumbent(problem)
        incumbent.search(np.inf)
        tree = grow_relu_tree(problem, incumbent, 1e-4, np.inf)
        bound = tree.certificate.bound
        if not (tree.complete and truth * (1 - 2e-4) <= bound <= truth * (1 + 1e-7)):
            return False
    return True


@pytest.fixture(scope="module")
def cases() -> list[tuple[LayerProblem, float]]:
    problems = [
        make_relu_layer(3, bound=None),
        make_relu_layer(3, bound=0.3, outputs=2),
        make_relu_layer(6, bound=None, at_most=1),
    ]
    return [(problem, optimum_by_patterns(problem)) for problem in problems]


def conjugate_without_the_flat_part(Y: Any, low: Any, high: Any, signs: Any, dual: Any) -> Any:
    z = np.clip(Y + dual / 2, low, high)
    return (z - Y) ** 2 - dual * z


def conjugate_without_low(Y: Any, low: Any, high: Any, signs: Any, dual: Any) -> Any:
    return least_tilted(Y, 0 * low, high, signs, dual)


def conjugate_with_signs_swapped(Y: Any, low: Any, high: Any, signs: Any, dual: Any) -> Any:
    return least_tilted(Y, low, high, -signs, dual)


def conjugate_with_double_tilt(Y: Any, low: Any, high: Any, signs: Any, dual: Any) -> Any:
    return least_tilted(Y, low, high, signs, 2 * dual)


@pytest.mark.parametrize(
    "mutant",
    [
        conjugate_without_the_flat_part,
        conjugate_without_low,
        conjugate_with_signs_swapped,
        conjugate_with_double_tilt,
    ],
)
def test_wrong_conjugates_are_rejected(
    mutant: Callable[..., Any], cases: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert conjugate_equals_a_grid(least_tilted)
    monkeypatch.setattr(relu_certificate, "least_tilted", mutant)
    assert not conjugate_equals_a_grid(mutant) or not holds_with_a_limit(cases)


def test_the_right_formulas_hold(cases: list[Any]) -> None:
    assert holds(cases)


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_too_narrow_ranges_are_rejected(share: float, cases: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    reach = relu_ranges._reach
    monkeypatch.setattr(relu_ranges, "_reach", lambda *arguments: share * reach(*arguments))
    assert not holds_with_a_limit(cases)


def conjugate_equals_a_grid(conjugate: Callable[..., Any]) -> bool:
    """Random targets, ranges, signs and tilts."""
    random = np.random.default_rng(0)
    for _ in range(100):
        target, tilt, (low, high) = random.uniform(-1, 2), random.uniform(-4, 4), 3 * random.random(2) * [-1, 1]
        sign = random.integers(-1, 2)
        z = np.append(np.linspace(low if sign != ON else 0.0, high if sign != OFF else 0.0, 2001), 0.0)
        truth = np.min(relu_loss(z, target) - tilt * z)
        numbers = (np.array([[v]]) for v in (target, low, high, sign, tilt))
        if not abs(conjugate(*numbers)[0, 0] - truth) <= 1e-4:
            return False
    return True


def holds_with_a_limit(cases: list[tuple[LayerProblem, float]]) -> bool:
    """As `holds`, a bound that never closes given up after a while; mutants may also find no bound at all."""
    for problem, truth in cases:
        incumbent = Incumbent(problem)
        incumbent.search(np.inf)
        budget = iter(range(40))

        def stop(bound: float, budget: Any = budget) -> None:
            if next(budget, None) is None:
                raise StopIteration

        try:
            tree = grow_relu_tree(problem, incumbent, 1e-4, np.inf, stop)
        except (StopIteration, ValueError):
            return False
        if not truth * (1 - 2e-4) <= tree.certificate.bound <= truth * (1 + 1e-7):
            return False
    return True
