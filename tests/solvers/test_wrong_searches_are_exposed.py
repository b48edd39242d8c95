"""A tree that fixes or drops the wrong parts cannot claim its optimum: the certificate recomputes every part's bound."""

from collections.abc import Callable

import numpy as np
import pytest
from layer_cases import CASES, make_layer

from solvers import branch, solve_exact
from solvers.branch import group_excess, grow_tree
from solvers.dual import FREE
from solvers.projected import alternate, evaluate, minimise, polish
from solvers.reduced import reduce
from solvers.result import covers


@pytest.mark.parametrize(
    "wrong",
    [
        lambda reduced, point: -group_excess(reduced, point),
        lambda reduced, point: 10 * group_excess(reduced, point),
        lambda reduced, point: group_excess(reduced, point) + 50.0,
    ],
    ids=["sign", "scale", "price forgotten"],
)
def test_wrong_fixings_never_pass_as_optimal(wrong: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make_layer(1, sizes=(2,) * 6, strength=8.0)
    truth = solve_exact(problem, gap=1e-6)
    assert truth.status == "optimal"
    assert grow_tree(reduce(problem), 1e-6, 60.0).status == "optimal"
    monkeypatch.setattr(branch, "group_excess", wrong)
    result = grow_tree(reduce(problem), 1e-6, 60.0)
    result.certificate.check(problem)
    assert result.certificate.bound <= truth.objective
    assert result.status != "optimal"


def test_a_search_that_drops_a_child_does_not_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make_layer(1, sizes=(2,) * 6, strength=8.0)
    split = branch._Search.split
    monkeypatch.setattr(branch._Search, "split", lambda self, states, point: split(self, states, point)[:1])
    monkeypatch.setattr(branch._Search, "fix", lambda self, states, point: states)
    leaves = grow_tree(reduce(problem), 1e-6, 60.0).certificate.leaves
    masks = [(sum(1 << j for j in leaf.off), sum(1 << j for j in leaf.on)) for leaf in leaves]
    assert not covers(masks)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("step", [alternate, polish])
def test_alternating_and_newton_steps_never_go_uphill(case: str, step: Callable[..., np.ndarray]) -> None:
    problem = make_layer(6, **CASES[case])
    reduced, states = reduce(problem), np.full(problem.n_groups, FREE, dtype=np.int8)
    start = minimise(reduced, states, reduced.zero(), tolerance=0.05).weights
    before, after = (evaluate(reduced, states, w)[0] for w in (start, step(reduced, states, start)))
    assert after <= before


def test_ill_conditioned_inputs_still_reach_nine_digits() -> None:
    plain = make_layer(6, sizes=(3, 3, 3), strength=1e-4)
    features = plain.X @ (np.eye(9) + 0.999 * np.ones((9, 9)))  # nearly one direction
    from solvers import LayerProblem, solve_relaxation

    result = solve_relaxation(LayerProblem(features, plain.Y, plain.labels, plain.regulariser, 1e-4))
    assert result.status == "optimal"
    assert result.gap <= 1e-9
