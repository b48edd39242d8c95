"""Indicators on the logarithmic scale reach the minimum in few looks; cheap Hessians are the inverse's own."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_cases import Program, random_layer, random_program

from solvers.problem import Array
from solvers.split.indicators import step_logarithms
from solvers.split.kernel import LEAST, assess, lowest, step_indicators, subtract_bend
from solvers.split.lapack import factor, press_roughly
from solvers.split.node import Effort, look_closely
from solvers.split.program import condense

SEEDS = st.integers(0, 200)


def spread(a: Array) -> Array:
    """A random point of the cone of the shape of a's blocks."""
    return a @ a.T + 0.3 * np.eye(len(a))


def shortfalls(program: Program, y: Array, step, looks: int) -> list[float]:
    """Height of h above its own tangent's minimum, over the constant, look by look."""
    room, found = program.split.room, []
    for _ in range(looks):
        ok, _, gradient, hessian, *_ = program._replace(y=y).look()
        assert ok
        found.append((gradient @ y - lowest(gradient, room)) / program.split.constant)
        y = step(y, gradient, hessian, room)
        assert np.all((y >= LEAST * (1 - 1e-12)) & (y <= 1))
        assert np.sum(y) <= room + 1e-6
    return found


@settings(max_examples=25, deadline=None, derandomize=True)
@given(SEEDS)
def test_logarithmic_steps_stay_inside_and_reach_the_minimum(seed: int) -> None:
    program = random_program(random_layer(seed), seed, boxed=False)
    y = np.minimum(program.y, program.split.room / len(program.y))
    found = shortfalls(program, y, step_logarithms, 14)
    assert min(found) >= -1e-9  # a tangent never passes h
    assert found[-1] <= 0.02


@pytest.mark.parametrize("seed", range(6))
def test_an_indicator_that_has_to_grow_a_thousandfold_needs_few_looks(seed: int) -> None:
    program = random_program(random_layer(2 * seed), seed, boxed=False)  # even: no count
    tiny = np.full(len(program.y), 1e-4)
    fast = shortfalls(program, tiny, step_logarithms, 14)
    slow = shortfalls(program, tiny, step_indicators, 14)
    assert fast[-1] <= 1e-3
    assert sum(f > 0.01 for f in fast) <= sum(f > 0.01 for f in slow)


@pytest.mark.parametrize(("p", "s", "o"), [(3, 4, 1), (4, 3, 1), (5, 6, 2), (3, 1, 1), (4, 2, 3), (2, 9, 1)])
def test_both_routes_to_the_hessian_are_the_inverse(p: int, s: int, o: int) -> None:
    random = np.random.default_rng(p + 10 * s)
    K, C = spread(random.standard_normal((p * s, p * s))), random.standard_normal((o, p * s))
    inverse = np.linalg.inv(K).reshape(p, s, p, s)
    blocks = C.reshape(o, p, s)
    expected = -np.einsum("oja,jaib,oib->ji", blocks, inverse, blocks)
    upper, hessian = K.copy(), np.zeros((p, p))
    assert factor(upper)
    subtract_bend(upper, C, s, hessian)
    np.testing.assert_allclose(hessian, expected, rtol=2e-4, atol=2e-4 * np.max(np.abs(expected)))


def test_pressed_rows_square_to_the_inverse() -> None:
    random = np.random.default_rng(0)
    a, rows = spread(random.standard_normal((7, 7))), random.standard_normal((3, 7)).astype(np.float32)
    upper, pressed = a.copy(), rows.copy()
    assert factor(upper)
    assert press_roughly(upper, pressed)
    np.testing.assert_allclose(pressed @ pressed.T, rows @ np.linalg.solve(a, rows.T), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("seed", [0, 3, 6, 12, 15, 18])  # layers without a box
def test_a_look_leaves_no_bound_on_the_table_when_a_wanted_group_is_dropped(seed: int) -> None:
    """Other groups' indicators have to grow from almost nothing; the bound is what the curvature at hand can show."""
    program = random_program(random_layer(seed), seed, boxed=False)
    split, p, parent = program.split, len(program.y), program.y
    for _ in range(60):
        _, _, gradient, hessian, *_ = program._replace(y=parent).look()
        parent = step_indicators(parent, gradient, hessian, split.room)
    states = np.zeros(p, dtype=np.int8)
    states[int(np.argmax(parent))] = -1
    part, left = condense(split, states), states == 0
    E = np.ascontiguousarray(program.E[:, left])
    y, best = np.full(p - 1, 0.5), np.inf
    theta = np.zeros_like(E)
    for _ in range(60):  # the oracle walks slowly, in y itself
        ok, h, gradient, hessian, *_ = assess(part.A, part.Bt, split.starts, E, theta, y, np.full(p - 1, split.price))
        assert ok
        best = min(best, h + part.value)
        y = step_indicators(y, gradient, hessian, split.room)
    start = (parent[left], E, np.zeros(E.shape[:3]), 1.0)
    cutoff = best + 0.2 * split.constant
    look = look_closely(split, part, split.room, start, cutoff, Effort(0, 0.02, False), time.perf_counter() + 20)
    assert look is not None
    assert look.bound <= best + 1e-7 * split.constant
    assert look.bound >= best - 0.01 * split.constant
