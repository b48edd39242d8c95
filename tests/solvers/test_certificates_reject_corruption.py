"""A certificate is believed only when dual points and cover are recomputed; anything tampered with is refused."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import make_layer

from perspective import CheckFailed
from solvers import Certificate, LayerProblem, Leaf, solve_relaxation
from solvers.branch import grow_tree
from solvers.reduced import reduce
from solvers.result import covers


@pytest.fixture(scope="module")
def problem() -> LayerProblem:
    return make_layer(1, sizes=(2,) * 6, strength=8.0)


@pytest.fixture(scope="module")
def tree(problem: LayerProblem) -> Certificate:
    certificate = grow_tree(reduce(problem), gap=1e-6, time_limit=60.0).certificate  # plain perspective: several leaves
    certificate.check(problem)
    assert len(certificate.leaves) > 3
    return certificate


@pytest.mark.parametrize("kind", ["big_m", "cone", "projected"])
def test_an_inflated_bound_is_refused(problem: LayerProblem, kind: str) -> None:
    certificate = solve_relaxation(problem, kind).certificate
    certificate.check(problem)
    for factor in (1 + 1e-9, 1.01, np.inf, np.nan):
        with pytest.raises(CheckFailed, match="certificate"):
            replace(certificate, bound=certificate.bound * factor).check(problem)


def test_a_corrupted_dual_point_is_refused(problem: LayerProblem, tree: Certificate) -> None:
    worst = min(range(len(tree.leaves)), key=lambda i: _alone(tree, i, problem))
    for change in (
        lambda u: 1.01 * u,
        lambda u: u + 0.05,
        lambda u: np.where(u == u.flat[0], np.nan, u),
        np.zeros_like,
    ):
        leaves = list(tree.leaves)
        leaves[worst] = replace(leaves[worst], dual=change(leaves[worst].dual))
        with pytest.raises(CheckFailed, match="dual point"):
            replace(tree, leaves=tuple(leaves)).check(problem)


def _alone(tree: Certificate, leaf: int, problem: LayerProblem) -> float:
    from solvers.dual import dual_value

    chosen = tree.leaves[leaf]
    return dual_value(problem, chosen.dual, chosen.states(problem.n_groups)).value


def test_a_missing_leaf_is_refused(problem: LayerProblem, tree: Certificate) -> None:
    for gone in range(len(tree.leaves)):
        with pytest.raises(CheckFailed, match="cover"):
            replace(tree, leaves=tree.leaves[:gone] + tree.leaves[gone + 1 :]).check(problem)
    with pytest.raises(CheckFailed, match="cover"):
        replace(tree, leaves=()).check(problem)


def test_a_leaf_that_claims_less_fixing_is_refused(problem: LayerProblem, tree: Certificate) -> None:
    """Dropping a leaf's conditions keeps the cover but not the bound."""
    free = tuple(Leaf((), (), leaf.dual) for leaf in tree.leaves)
    with pytest.raises(CheckFailed, match="proves"):
        replace(tree, leaves=free).check(problem)


def test_nonsense_fixings_are_refused(problem: LayerProblem, tree: Certificate) -> None:
    dual = tree.leaves[0].dual
    for leaf in (Leaf((0,), (0,), dual), Leaf((99,), (), dual), Leaf((-1,), (), dual), Leaf((0, 0), (), dual)):
        with pytest.raises(CheckFailed, match="twice or one that does not exist"):
            replace(tree, leaves=(*tree.leaves, leaf)).check(problem)


def test_another_problem_is_refused(problem: LayerProblem, tree: Certificate) -> None:
    with pytest.raises(CheckFailed, match="shape"):
        tree.check(make_layer(1, sizes=(2,) * 6, samples=24))
    with pytest.raises(CheckFailed, match="proves"):
        tree.check(make_layer(1, sizes=(2,) * 6, strength=7.0))
    with pytest.raises(CheckFailed, match="proves"):
        tree.check(make_layer(2, sizes=(2,) * 6, strength=8.0))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=9))
def test_the_cover_is_exact(masks: list[tuple[int, int]]) -> None:
    leaves = [(off & ~on, on) for off, on in masks]
    point_by_point = all(
        any(
            all(not v[j] for j in range(4) if off >> j & 1) and all(v[j] for j in range(4) if on >> j & 1)
            for off, on in leaves
        )
        for v in product((0, 1), repeat=4)
    )
    assert covers(leaves) == point_by_point


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.randoms(use_true_random=False))
def test_every_binary_tree_covers_and_no_proper_part_of_it_does(random: object) -> None:
    leaves = [(0, 0)]
    for _ in range(12):
        off, on = leaves.pop(random.randrange(len(leaves)))
        bits = [1 << j for j in range(8) if not (off | on) >> j & 1]
        if not bits:
            leaves.append((off, on))
            continue
        bit = random.choice(bits)
        leaves += [(off | bit, on), (off, on | bit)]
    assert covers(leaves)
    gone = random.randrange(len(leaves))
    assert not covers(leaves[:gone] + leaves[gone + 1 :])
