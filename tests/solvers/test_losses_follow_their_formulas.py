"""Each loss: value, slope, conjugate, dual step, against a naive sum, differences and a grid; wrong conjugates are caught."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.losses import ALL, BY_NAME
from solvers.losses.smoothed import Smoothed

NAMES = [loss.name for loss in ALL]
GRID = np.linspace(-60, 60, 240_001)
NAIVE: dict[str, Callable[[Any, float], Any]] = {
    "squared": lambda p, y: (p - y) ** 2,
    "absolute": lambda p, y: np.abs(p - y),
    "logistic": lambda p, y: np.log(1 + np.exp(-y * p)),
    "hinge": lambda p, y: np.maximum(0, 1 - y * p),
    "relu": lambda p, y: (np.maximum(p, 0) - y) ** 2,
}


def draw(name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, targets, and a point of the conjugate's domain."""
    random = np.random.default_rng(seed)
    Y = random.choice([-1.0, 1.0], (4, 2)) if name in ("logistic", "hinge") else random.normal(size=(4, 2)) * 2
    P = random.normal(size=(4, 2)) * 3
    return P, Y, BY_NAME[name].project(random.normal(size=(4, 2)) * 1.2, Y)


def naive(name: str, P: np.ndarray, Y: np.ndarray) -> float:
    return float(sum(NAIVE[name](p, y) for p, y in zip(P.flat, Y.flat, strict=True)))


def conjugate_on_a_grid(name: str, U: np.ndarray, Y: np.ndarray) -> float:
    points = [np.append(GRID, y) for y in Y.flat]  # the kink too
    return float(sum(np.max(u * g - NAIVE[name](g, y)) for u, y, g in zip(U.flat, Y.flat, points, strict=True)))


@pytest.mark.parametrize("name", NAMES)
def test_the_value_is_the_naive_sum_and_the_slope_its_difference(name: str) -> None:
    loss = BY_NAME[name]
    for seed in range(20):
        P, Y, _ = draw(name, seed)
        assert loss.value(P, Y) == pytest.approx(naive(name, P, Y), rel=1e-12)
        step = np.zeros_like(P)
        for entry in np.ndindex(P.shape):
            step[...] = 0
            step[entry] = 1e-6
            slope = (loss.value(P + step, Y) - loss.value(P - step, Y)) / 2e-6
            assert loss.gradient(P, Y)[entry] == pytest.approx(slope, abs=1e-5)
        if loss.smooth:
            bend = (loss.gradient(P + 1e-5, Y) - loss.gradient(P - 1e-5, Y)) / 2e-5
            assert loss.second(P, Y) == pytest.approx(bend, abs=1e-7)
            assert np.all(loss.second(P, Y) <= loss.steepest)


def conjugates_hold(name: str, conjugate: Callable[..., tuple[float, float]]) -> bool:
    for seed in range(12):
        _, Y, U = draw(name, seed)
        value, size = conjugate(U, Y)
        if not np.isclose(value, conjugate_on_a_grid(name, U, Y), rtol=1e-6, atol=1e-5) or abs(value) > size * (
            1 + 1e-12
        ):
            return False
    return True


@pytest.mark.parametrize("name", NAMES)
def test_the_conjugate_is_the_supremum(name: str) -> None:
    assert conjugates_hold(name, BY_NAME[name].conjugate)


def without_the_square(U: Any, Y: Any) -> tuple[float, float]:
    return float(np.sum(U * Y)), float(np.sum(np.abs(U * Y)) + 1)


def half_of_the_square(U: Any, Y: Any) -> tuple[float, float]:
    return float(np.sum(0.5 * U**2 + U * Y)), 1e9


def other_sign(name: str) -> Callable[..., tuple[float, float]]:
    return lambda U, Y: (-BY_NAME[name].conjugate(U, Y)[0], 1e9)


def other_targets(name: str) -> Callable[..., tuple[float, float]]:
    return lambda U, Y: BY_NAME[name].conjugate(BY_NAME[name].project(U, -Y), -Y)


def one_entropy(U: Any, Y: Any) -> tuple[float, float]:
    t = np.clip(-Y * U, 1e-300, 1)
    return float(np.sum(t * np.log(t))), 1e9


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("squared", without_the_square),
        ("squared", half_of_the_square),
        ("logistic", one_entropy),
        ("relu", BY_NAME["squared"].conjugate),
        *((name, other_sign(name)) for name in NAMES),
        *((name, other_targets(name)) for name in NAMES),
    ],
)
def test_wrong_conjugates_are_rejected(name: str, wrong: Callable[..., tuple[float, float]]) -> None:
    assert not conjugates_hold(name, wrong)


@pytest.mark.parametrize("name", ["absolute", "logistic", "hinge", "relu"])
def test_outside_its_domain_the_conjugate_is_infinite(name: str) -> None:
    loss = BY_NAME[name]
    _, Y, U = draw(name, 3)
    for out in (1.0 + 1e-12, -1.0 - 1e-12, 5.0, -5.0):
        moved = U.copy()
        moved[0, 0] = out
        if np.array_equal(loss.project(moved, Y), moved):
            continue
        assert loss.conjugate(moved, Y)[0] == np.inf
        assert np.isfinite(loss.conjugate(loss.project(moved, Y), Y)[0])


@pytest.mark.parametrize("name", ["absolute", "hinge"])
@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), sigma=st.floats(0.05, 20))
def test_the_smoothed_loss_is_the_moreau_envelope(name: str, seed: int, sigma: float) -> None:
    """e(p) = min over q of loss(q) + sigma/2 (p + c/sigma - q)^2 - c^2/(2 sigma), entry by entry on a grid."""
    loss = BY_NAME[name]
    P, Y, C = draw(name, seed)
    smooth = Smoothed(loss, C, sigma)
    value = 0.0
    for p, y, c in zip(P.flat, Y.flat, C.flat, strict=True):
        near = np.append(GRID[np.abs(GRID - p) < 40], y)
        value += np.min(NAIVE[name](near, y) + 0.5 * sigma * (p + c / sigma - near) ** 2) - c**2 / (2 * sigma)
    assert smooth.value(P, Y) == pytest.approx(value, rel=1e-5, abs=1e-4)
    slope = (smooth.value(P + 1e-6, Y) - smooth.value(P - 1e-6, Y)) / 2e-6
    assert np.sum(smooth.gradient(P, Y)) == pytest.approx(slope, rel=1e-4, abs=1e-4)
    U = smooth.gradient(P, Y)
    assert np.sum(U * P) - smooth.conjugate(U, Y)[0] == pytest.approx(smooth.value(P, Y), rel=1e-12)
