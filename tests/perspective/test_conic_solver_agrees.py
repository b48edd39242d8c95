"""prox and value agree with a conic solver on 220 random (cost, parameters, point) cases, which wrong maps do not."""

from collections.abc import Callable

import cvxpy as cp
import numpy as np
import pytest
import sympy
from conic_group import FAMILIES, alpha, pose

CASES = 10  # for each of the 22 families
SAME_OBJECTIVE = 1e-7  # of |v|^2 / 2, the objective at w = 0; Clarabel's gap is 1e-9
SAME_POINT = 1e-4  # of max |v|: the objective's gap leaves the square root of it
SAME_VALUE = 1e-7  # relative, and
TINY = 1e-8  # absolute: Clarabel's own


def random_case(name: str, case: int):
    """Parameters, a group v of size 0.5 to 5, and a step from far below to just above the one that removes it."""
    rng = np.random.default_rng([2023, case, *name.encode()])
    group = pose(name)
    block = group.regularizer.block
    numbers = {parameter: float(10 ** rng.uniform(-0.7, 0.5)) for parameter in block.parameters}
    if alpha in block.price.free_symbols:
        numbers["alpha"] = float(rng.uniform(0.02, 0.98))
    number = group.regularizer.bind(**numbers)
    v = rng.normal(size=FAMILIES[name].size)
    v *= 10 ** rng.uniform(-0.3, 0.7) / np.abs(v).max()
    if block.lower == 0 and v.max() <= 0:
        v = -v
    return group, numbers, number, v, float(number.zero_threshold(v)) * rng.uniform(0.05, 1.1)


def disagreement(group, numbers, value: Callable, prox: Callable, v, step) -> tuple[float, float]:
    """Errors of a prox's objective and point against the conic program's."""
    truth, point = group.prox(v, step, numbers)
    mine = prox(v, step)
    edge = mine * (1 - 4e-16) if group.regularizer.block.radial else mine  # rounding may put |w|_2 an ulp past the ball
    objective = 0.5 * float((mine - v) @ (mine - v)) + step * float(value(edge))
    return abs(objective - truth) / (0.5 * float(v @ v)), float(np.abs(mine - point).max() / np.abs(v).max())


@pytest.mark.parametrize("name", FAMILIES)
def test_prox_and_value_of_random_cases(name):
    inside = 0
    for case in range(CASES):
        group, numbers, number, v, step = random_case(name, case)
        objective, point = disagreement(group, numbers, number.value, number.prox, v, step)
        assert objective <= SAME_OBJECTIVE, (numbers, v, step)
        assert point <= SAME_POINT, (numbers, v, step)
        w = number.prox(v, step) * 0.7 if number.prox(v, step).any() else _inside(group.regularizer.block, number, v)
        mine = float(number.value(w))
        assert abs(group.value(w, numbers) - mine) <= SAME_VALUE * mine + TINY, (numbers, w)
        inside += 0 < float(number.indicator(w)) < 1
    assert inside or name == "linear, no box"  # there y* is 0 or 1 only


def test_two_hundred_and_twenty_cases():
    assert len(FAMILIES) * CASES == 220


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("quadratic, no box", lambda x, p: p["alpha"] * cp.sum_squares(x)),
        ("elastic", lambda x, p: p["alpha"] * cp.sum_squares(x) + p["beta"] * cp.norm1(x)),
        ("cosh in a box", lambda x, p: cp.sum(cp.exp(x) + cp.exp(-x) - 2) / 2),
    ],
)
def test_value_against_cvxpys_own_perspective(name, function):
    # power and Huber are left to the cones above: cvxpy 1.9's perspective of power(x, 1.5) is wrong
    for case in range(3):
        group, numbers, number, v, _step = random_case(name, 100 + case)
        w = _inside(group.regularizer.block, number, v)
        x, y = cp.Variable(v.size), cp.Variable(nonneg=True)
        program = cp.Minimize(cp.perspective(function(x, numbers), y) + number.price * y)
        boxed = [] if number.bound is None else [cp.abs(x) <= number.bound * y]
        problem = cp.Problem(program, [x == w, y <= 1, *boxed])
        problem.solve(solver=cp.CLARABEL)
        mine = float(number.value(w))
        assert abs(problem.value - mine) <= 1e-6 * mine, (numbers, w)


WRONG = {
    "identity": lambda number: lambda v, step: v,
    "half the step": lambda number: lambda v, step: number.prox(v, step / 2),
    "one percent of the step": lambda number: lambda v, step: number.prox(v, step * 1.01),
    "kept whole": lambda number: lambda v, step: v / (1 + 2 * step * number.parameters["alpha"]),
    "group soft threshold": lambda number: lambda v, step: v * max(0.0, 1 - step / float(number.zero_threshold(v))),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_maps_disagree(wrong):
    caught = 0
    for case in range(CASES):
        group, numbers, number, v, step = random_case("SPR", case)
        if not number.prox(v, step).any():
            continue  # a wrong map may remove the group rightly
        bound = sympy.oo if number.bound is None else number.bound

        def clipped(v, step, number=number, bound=bound):
            return np.clip(WRONG[wrong](number)(v, step), -bound, bound)

        objective, point = disagreement(group, numbers, number.value, clipped, v, step)
        caught += objective > SAME_OBJECTIVE or point > SAME_POINT
    assert caught >= 3


def _inside(block, number, v):
    """A point of the box in the direction of v."""
    if number.bound is None:
        return np.maximum(v, 0) if block.lower == 0 else v
    reach = number.bound if block.lower is None else min(number.bound, number.parameters["L"])
    return v * 0.4 * reach / (np.linalg.norm(v) if block.radial else np.abs(v).max())
