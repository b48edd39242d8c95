"""Certificates made by hand to claim more than the optimum: other number types, another loss, singular blocks, lost digits."""

from dataclasses import replace

import numpy as np
import pytest
from layer_cases import make_layer

from perspective import CheckFailed, IndicatorBlock, derive
from solvers import Certificate, LayerProblem, Leaf, solve_exact
from solvers.relu.certificate import ReluLeaf
from solvers.split.leaf import Frame, SplitLeaf, SplitPoint


@pytest.fixture(scope="module")
def problem() -> LayerProblem:
    return make_layer(1, sizes=(2, 2, 2), strength=4.0)


@pytest.fixture(scope="module")
def honest(problem: LayerProblem) -> Certificate:
    certificate = solve_exact(problem, gap=1e-6).certificate
    certificate.check(problem)
    return certificate


class Careless(np.ndarray):
    """An array that squares to nothing."""

    def __pow__(self, other: object) -> np.ndarray:
        return np.zeros(self.shape)


@pytest.mark.parametrize(
    "kind",
    [
        lambda U: 1j * U,
        lambda U: U.astype(np.float16),
        lambda U: np.round(U).astype(np.int8),
        lambda U: U.view(Careless),
    ],
    ids=["complex", "half", "wrapping integers", "an array of its own"],
)
def test_dual_points_of_other_kinds_are_refused(problem: LayerProblem, kind: object) -> None:
    point = np.full(problem.targets2d.shape, 3.0)
    with pytest.raises(CheckFailed, match="dual point"):
        Certificate(-1e9, (Leaf((), (), kind(point)),)).check(problem)


def test_a_split_for_the_squared_loss_proves_nothing_for_another(problem: LayerProblem, honest: Certificate) -> None:
    other = LayerProblem(problem.X, problem.Y, problem.labels, problem.regulariser, problem.strength, "absolute")
    with pytest.raises(CheckFailed, match="none to split"):
        honest.check(other)


@pytest.mark.parametrize("field", ["y", "E", "box"])
@pytest.mark.parametrize("kind", [lambda a: a + 0.3j, lambda a: a.astype(np.float32)], ids=["complex", "single"])
def test_split_points_of_other_kinds_are_refused(
    problem: LayerProblem, honest: Certificate, field: str, kind: object
) -> None:
    leaf = next(leaf for leaf in honest.leaves if len(leaf.point.y))
    point = replace(leaf.point, **{field: kind(getattr(leaf.point, field))})
    with pytest.raises(CheckFailed, match="the certificate's"):
        replace(honest, leaves=(SplitLeaf((), (), point),)).check(problem)


def test_foreign_leaves_are_refused(problem: LayerProblem) -> None:
    leaf = ReluLeaf((), (), (), (), np.zeros((len(problem.X), 1)))
    with pytest.raises(CheckFailed, match="no leaf"):
        Certificate(-1.0, (leaf,)).check(problem)


def test_blocks_singular_to_rounding_prove_nothing(problem: LayerProblem) -> None:
    outputs = problem.targets2d.shape[1]
    best = solve_exact(problem, gap=1e-6).objective
    frame = Frame(np.array([0, outputs]), np.eye(outputs))
    rng = np.random.default_rng(0)
    for _ in range(200):
        angle = rng.uniform(0.1, 1.45)
        block = 0.4 * np.outer(*[[np.cos(angle), np.sin(angle)]] * 2)
        block[1, 1] *= 1 + rng.integers(-3, 4) * 1.1e-16
        point = SplitPoint(np.zeros(3, np.int8), np.full(3, 1e-300), np.stack([[block] * 3]), np.zeros((1, 3, 2)))
        with pytest.raises(CheckFailed):
            Certificate(best * 1.01, (SplitLeaf((), (), point),), frame=frame).check(problem)


@pytest.mark.parametrize("near", [1e-3, 1e-4, 1e-5, 3e-6])
def test_lost_digits_are_taken_off_the_bound(near: float) -> None:
    """Two columns of a group nearly equal: whitening hides it, the normal equations have lost the digits all the same."""
    import mpmath
    import sympy

    s, a, c = sympy.symbols("s a c", positive=True)
    cost = derive(IndicatorBlock(a * s**2, s, c)).bind(a=1e-3, c=1.0)
    rng = np.random.default_rng(4)
    u, v = rng.standard_normal((12, 2)), rng.standard_normal(12)
    X = np.stack([u[:, 0], u[:, 0] + near * v, u[:, 1], rng.standard_normal(12)], 1)
    problem = LayerProblem(X, 5 * v + 0.3 * rng.standard_normal(12), [0, 0, 1, 1], cost, 1e-9)
    certificate = solve_exact(problem, gap=1e-4).certificate
    certificate.check(problem)
    mpmath.mp.dps = 60
    ridge, price, truth = mpmath.mpf(1e-9) * mpmath.mpf(1e-3), mpmath.mpf(1e-9), mpmath.inf
    for rows in ((), (0, 1), (2, 3), (0, 1, 2, 3)):
        Y, value = mpmath.matrix(problem.Y.tolist()), mpmath.mpf(0)
        if rows:
            part = mpmath.matrix(problem.X[:, list(rows)].tolist())
            gram = part.T * part + ridge * mpmath.eye(len(rows))
            value = -((part.T * Y).T * mpmath.lu_solve(gram, part.T * Y))[0]
        truth = min(truth, (Y.T * Y)[0] + value + price * (len(rows) // 2))
    assert certificate.bound <= truth
