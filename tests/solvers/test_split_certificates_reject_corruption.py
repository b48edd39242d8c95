"""A proof by split curvature is recomputed from the data; whatever is changed in it is refused with a sentence."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import make_layer, make_regulariser

from perspective import CheckFailed
from solvers import Certificate, LayerProblem, solve_exact
from solvers.result import covers
from solvers.split.leaf import Frame, SplitLeaf, SplitPoint

LAYER: dict[str, Any] = {"sizes": (2, 1, 2, 2, 2, 1, 2, 2), "samples": 20, "outputs": 2, "bound": 0.35}


@pytest.fixture(scope="module")
def problem() -> LayerProblem:
    return make_layer(10, **LAYER, strength=8.0)


@pytest.fixture(scope="module", params=["blocks", "uniform"])
def certificate(request: pytest.FixtureRequest, problem: LayerProblem) -> Certificate:
    result = solve_exact(problem, gap=1e-6, strengthen=request.param)
    assert result.status == "optimal"
    found = result.certificate
    assert found is not None
    found.check(problem)
    assert len(found.leaves) > 3
    return found


def with_points(certificate: Certificate, edit: Callable[[SplitPoint], dict[str, Any]]) -> Certificate:
    """Every point with free groups edited."""
    leaves = list(certificate.leaves)
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, SplitLeaf) and len(leaf.point.y) > 0:
            leaves[i] = replace(leaf, point=replace(leaf.point, **edit(leaf.point)))
    assert any(new is not old for new, old in zip(leaves, certificate.leaves, strict=True))
    return replace(certificate, leaves=tuple(leaves))


def changed(array: np.ndarray, value: float) -> np.ndarray:
    array = array.copy()
    array.flat[0] = value
    return array


CHANGES: dict[str, tuple[Callable[[SplitPoint], dict[str, Any]], str]] = {
    "y of zero": (lambda p: {"y": changed(p.y, 0.0)}, "between 0 and 1"),
    "y above one": (lambda p: {"y": changed(p.y, 1.0 + 1e-9)}, "between 0 and 1"),
    "y not a number": (lambda p: {"y": changed(p.y, np.nan)}, "between 0 and 1"),
    "y of another shape": (lambda p: {"y": p.y[1:]}, "between 0 and 1"),
    "E too large": (lambda p: {"E": 100 * p.E}, "more curvature"),
    "E slightly outside the cone": (lambda p: {"E": p.E + (2 - np.max(p.E)) * np.eye(2)}, "more curvature"),
    "E negative": (lambda p: {"E": -p.E}, "more curvature"),
    "E not symmetric": (lambda p: {"E": p.E + 1e-6 * np.array([[0, 1], [0, 0]])}, "not symmetric"),
    "E not a number": (lambda p: {"E": changed(p.E, np.nan)}, "shape"),
    "E of another shape": (lambda p: {"E": p.E[:, 1:]}, "shape"),
    "a negative multiplier": (lambda p: {"box": changed(p.box, -1e-9)}, "multipliers"),
    "a multiplier not a number": (lambda p: {"box": changed(p.box, np.nan)}, "multipliers"),
    "multipliers of another shape": (lambda p: {"box": p.box[:, 1:]}, "multipliers"),
    "states of another length": (lambda p: {"states": p.states[1:]}, "keep the groups"),
    "contradicting states": (lambda p: {"states": np.ones_like(p.states)}, "keep the groups|shape|between"),
    "another point": (lambda p: {"y": np.where(p.y > 0.3, 1e-3, 1.0)}, "proves"),
    "less curvature": (lambda p: {"E": 1e-6 * p.E}, "proves"),
    "other multipliers": (lambda p: {"box": 50 * p.box + 50}, "proves"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_corrupted_point_is_refused(change: str, certificate: Certificate, problem: LayerProblem) -> None:
    edit, sentence = CHANGES[change]
    with pytest.raises(CheckFailed, match=sentence):
        with_points(certificate, edit).check(problem)


def test_a_missing_leaf_is_refused(certificate: Certificate, problem: LayerProblem) -> None:
    for gone in range(len(certificate.leaves)):
        with pytest.raises(CheckFailed, match="cover"):
            replace(certificate, leaves=certificate.leaves[:gone] + certificate.leaves[gone + 1 :]).check(problem)


def test_a_leaf_must_keep_what_its_point_has_fixed(certificate: Certificate, problem: LayerProblem) -> None:
    """Dropping or turning a fixing of the point itself; fixing more than the point is allowed."""
    fixing = [
        i for i, leaf in enumerate(certificate.leaves) if isinstance(leaf, SplitLeaf) and np.any(leaf.point.states != 0)
    ]
    assert fixing
    for i in fixing:
        leaf = certificate.leaves[i]
        assert isinstance(leaf, SplitLeaf)
        for off, on in (((), ()), (leaf.on, leaf.off)):
            wrong = (*certificate.leaves, replace(leaf, off=off, on=on))
            with pytest.raises(CheckFailed, match="keep the groups"):
                replace(certificate, leaves=wrong).check(problem)


def test_a_leaf_that_claims_less_fixing_is_refused(certificate: Certificate, problem: LayerProblem) -> None:
    """A point alone proves less than a part of the tree that fixes more than it."""
    wider = [
        SplitLeaf(_fixed(leaf.point, -1), _fixed(leaf.point, 1), leaf.point) if isinstance(leaf, SplitLeaf) else leaf
        for leaf in certificate.leaves
    ]
    with pytest.raises(CheckFailed, match="proves"):
        replace(certificate, leaves=tuple(wider)).check(problem)


def _fixed(point: SplitPoint, state: int) -> tuple[int, ...]:
    return tuple(int(j) for j in np.flatnonzero(point.states == state))


@pytest.mark.parametrize("factor", [1 + 1e-5, 1.01, np.inf, np.nan])
def test_an_inflated_bound_is_refused(factor: float, certificate: Certificate, problem: LayerProblem) -> None:
    with pytest.raises(CheckFailed, match=r"claims|bound is"):
        replace(certificate, bound=certificate.bound * factor).check(problem)


FRAMES: dict[str, tuple[Callable[[Frame], Frame | None], str]] = {
    "none": (lambda f: None, "lacks the frame"),
    "rotation of another shape": (lambda f: replace(f, rotation=np.eye(3)), "outputs' shape"),
    "rotation not a number": (lambda f: replace(f, rotation=np.full((2, 2), np.nan)), "outputs' shape"),
    "rotation stretches": (lambda f: replace(f, rotation=1.001 * f.rotation), "not orthogonal"),
    "another rotation": (lambda f: replace(f, rotation=f.rotation[:, ::-1].copy()), "proves"),
    "no clusters": (lambda f: replace(f, starts=np.zeros(0, dtype=np.int64)), "cover the outputs"),
    "clusters miss outputs": (lambda f: replace(f, starts=np.array([0, 1])), "cover the outputs"),
    "clusters overlap": (lambda f: replace(f, starts=np.array([0, 1, 1, 2])), "cover the outputs"),
    "clusters run backwards": (lambda f: replace(f, starts=np.array([0, 3, 2])), "cover the outputs"),
}


@pytest.mark.parametrize("change", FRAMES)
def test_a_wrong_frame_is_refused(change: str, problem: LayerProblem) -> None:
    certificate = solve_exact(problem, gap=1e-6, strengthen="blocks").certificate
    assert certificate is not None
    assert certificate.frame is not None
    edit, sentence = FRAMES[change]
    with pytest.raises(CheckFailed, match=sentence):
        replace(certificate, frame=edit(certificate.frame)).check(problem)


def test_another_problem_is_refused(certificate: Certificate, problem: LayerProblem) -> None:
    for other in (make_layer(10, **LAYER, strength=7.0), make_layer(11, **LAYER, strength=8.0)):
        with pytest.raises(CheckFailed):
            certificate.check(other)
    free = replace(problem, regulariser=make_regulariser(bound=None))
    boxed = [leaf for leaf in certificate.leaves if isinstance(leaf, SplitLeaf) and np.any(leaf.point.box)]
    assert boxed
    with pytest.raises(CheckFailed, match="the problem has none"):
        replace(certificate, leaves=(*boxed, *certificate.leaves)).check(free)
    wider = replace(problem, regulariser=make_regulariser(bound=3.5))
    with pytest.raises(CheckFailed, match="proves"):
        certificate.check(wider)


def test_a_singular_problem_is_refused(certificate: Certificate) -> None:
    singular = make_layer(0, **LAYER | {"bound": 1.5e-6}, duplicate=True, scale=1e6)
    split = [leaf for leaf in certificate.leaves if isinstance(leaf, SplitLeaf)]
    with pytest.raises(CheckFailed, match="singular"):
        replace(certificate, leaves=(*split, *certificate.leaves)).check(singular)


def test_a_count_is_part_of_the_proof(problem: LayerProblem) -> None:
    """What holds for few groups need not hold for more; the other way round it does."""
    few, many = replace(problem, at_most=1), replace(problem, at_most=4)
    for strengthen in ("blocks", "none"):
        proof = solve_exact(few, gap=1e-6, strengthen=strengthen).certificate
        assert proof is not None
        proof.check(few)
        with pytest.raises(CheckFailed, match=r"cover|proves"):
            proof.check(many)
        loose = solve_exact(many, gap=1e-6, strengthen=strengthen).certificate
        assert loose is not None
        loose.check(few)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=9), st.integers(0, 4))
def test_the_cover_of_the_choices_a_count_allows_is_exact(masks: list[tuple[int, int]], room: int) -> None:
    leaves = [(off & ~on, on) for off, on in masks]
    allowed = [code for code in range(16) if code.bit_count() <= room]
    point_by_point = all(any(not code & off and code & on == on for off, on in leaves) for code in allowed)
    assert covers(leaves, room) == point_by_point
