"""The test of the tests: a split search that prunes, fixes, branches or bounds wrongly cannot pass its wrong answer off.

For every mutant: no wrong value comes with a certificate that holds, and on some layer the mutant is found out.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from layer_cases import make_layer
from split_cases import found_out, true_optimum

from solvers import LayerProblem, solve_exact
from solvers.split import node as split_node
from solvers.split import part as split_part
from solvers.split import tree as split_tree
from solvers.split.leaf import SplitPoint
from solvers.split.program import Condensed

GAP = 1e-6
SPLITS = split_tree._Search.split_part
LOOK, CONDENSE, ASSESS, GAINS = (
    split_tree._Search.look,
    split_tree.condense,
    split_node.assess,
    split_tree.tangent_gains,
)
LOWEST, CURVE, BOX, POINT, RESTRICT = (
    split_node.lowest,
    split_node.step_curvature,
    split_node.step_box,
    split_tree.point_part,
    split_tree.restrict,
)


def layers() -> Iterator[tuple[LayerProblem, float]]:
    for seed, bound, at_most in ((10, 0.35, None), (16, 0.35, 3), (3, None, None), (7, None, 2), (12, 2.0, None)):
        made = make_layer(seed, sizes=(2, 1, 2, 2, 2, 1, 2), samples=20, outputs=2, bound=bound, strength=6.0)
        problem = replace(made, at_most=at_most)
        yield problem, true_optimum(problem)


LAYERS = tuple(layers())


def step_far(A: Any, E: Any, *rest: Any) -> bool:
    """A curvature step too long for the cone."""
    before = E.copy()
    ok = CURVE(A, E, *rest)
    E += 4 * np.abs(E - before).max() * np.eye(E.shape[-1])
    return ok


def multiply_box(E: Any, Theta: Any, box: Any, *rest: Any) -> None:
    BOX(E, Theta, box, *rest)
    box *= -1


def condense_wrong(change: Callable[[Any, Condensed], float]) -> Callable[[Any, Any], Condensed]:
    def wrong(split: Any, states: Any) -> Condensed:
        part = CONDENSE(split, states)
        return replace(part, value=part.value + change(split, part))

    return wrong


def explained(split: Any, part: Condensed) -> float:
    return float(np.sum(split.Bt[:, split.features(part.on)] * part.keep))


def prices_forgotten(split_prices: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(A: Any, Bt: Any, starts: Any, E: Any, Theta: Any, y: Any, prices: Any) -> Any:
        return ASSESS(A, Bt, starts, E, Theta, y, np.full_like(prices, LAYERS[0][0].strength * 0.5))

    return wrong


def foreign_blocks(part: Any, states: Any) -> Any:
    child = RESTRICT(part, states)
    return replace(child, E=np.ascontiguousarray(2 * child.E[:, ::-1]))


def swapped(self: Any, states: Any, point: SplitPoint, bound: float) -> None:
    CLOSE(self, -states, point, bound)


CLOSE = split_tree._Search.close
MUTANTS: dict[str, tuple[Any, str, Any]] = {
    "fixing with the gradient's sign turned": (split_tree, "tangent_gains", lambda g, room: GAINS(-g, room)),
    "fixing with twice the gains": (split_tree, "tangent_gains", lambda g, room: 2 * GAINS(g, room)),
    "fixing with off and on exchanged": (split_tree, "tangent_gains", lambda g, room: GAINS(g, room)[:, ::-1]),
    "fixing everything": (split_tree, "tangent_gains", lambda g, room: np.full((len(g), 2), 1e9)),
    "gains for fewer groups than allowed": (split_tree, "tangent_gains", lambda g, room: GAINS(g, max(room - 1, 1))),
    "a child dropped": (split_tree._Search, "split_part", lambda *a: SPLITS(*a)[:1]),
    "the other child dropped": (split_tree._Search, "split_part", lambda *a: SPLITS(*a)[1:]),
    "children without their fixing": (split_tree, "restrict", lambda part, states: RESTRICT(part, part.states)),
    "leaves with off and on exchanged": (split_tree._Search, "close", swapped),
    "parts thrown away unlooked": (split_tree._Search, "closed_by_bound", lambda self, part: part.bound > 0),
    "room for one group less": (split_node, "lowest", lambda g, room: LOWEST(g, max(room - 3, 0))),
    "a tangent without its slope": (split_node, "lowest", lambda g, room: float(np.sum(g))),
    "half of the tangent": (split_node, "lowest", lambda g, room: 0.5 * LOWEST(g, room)),
    "price of the groups on counted twice": (
        split_tree,
        "condense",
        condense_wrong(lambda split, part: split.price * len(part.on)),
    ),
    "constant of the Schur complement forgotten": (split_tree, "condense", condense_wrong(explained)),
    "price of the multipliers forgotten": (split_node, "assess", prices_forgotten(ASSESS)),
    "negative multipliers": (split_node, "step_box", multiply_box),
    "curvature steps that leave the cone": (split_node, "step_curvature", step_far),
    "blocks of other groups": (split_tree, "restrict", foreign_blocks),
    "a child's bound from nowhere": (split_tree, "point_part", lambda part, point, b: POINT(part, point, b * 1.05)),
    "the incumbent as bound": (
        split_tree._Search,
        "absorb",
        lambda self, part, condensed, look, root: CLOSE(self, part.states, part.point, self.value) or [],
    ),
}
HARMLESS: dict[str, tuple[Any, str, Any]] = {
    "price of the groups on forgotten": (
        split_tree,
        "condense",
        condense_wrong(lambda split, part: -split.price * len(part.on)),
    ),
    "room for more groups than allowed": (split_node, "lowest", lambda g, room: LOWEST(g, len(g))),
    "no fixing": (split_tree, "tangent_gains", lambda g, room: np.zeros((len(g), 2))),
    "branching on the worst group": (
        split_tree,
        "branching_scores",
        lambda look, left: -split_part.branching_scores(look, left),
    ),
    "no multipliers": (split_node, "step_box", lambda *a: None),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_search_is_found_out(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, name, wrong = MUTANTS[mutant]
    monkeypatch.setattr(place, name, wrong)
    exposed = []
    for problem, truth in LAYERS:
        for strengthen in ("none", "blocks"):
            result = solve_exact(problem, gap=GAP, time_limit=0.2, backend="branch", strengthen=strengthen)
            exposed.append(found_out(result, problem, truth, GAP))
    assert any(exposed)


@pytest.mark.parametrize("slower", HARMLESS)
def test_a_weak_search_is_slower_not_wrong(slower: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, name, weak = HARMLESS[slower]
    monkeypatch.setattr(place, name, weak)
    for problem, truth in LAYERS:
        found_out(solve_exact(problem, gap=GAP, time_limit=0.2, backend="branch"), problem, truth, GAP)


def test_the_search_itself_passes_where_its_mutants_fail() -> None:
    for problem, truth in LAYERS:
        for strengthen in ("none", "blocks"):
            result = solve_exact(problem, gap=GAP, backend="branch", strengthen=strengthen)
            assert result.status == "optimal"
            assert not found_out(result, problem, truth, GAP)
            assert result.nodes > 1 or strengthen == "blocks"
