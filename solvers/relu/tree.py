"""Branch and bound over groups and activation signs, best first: the proof of a ReLU layer's bound.

Each node's bound is the dual value where `relu_node` stopped. The gap of a node splits into one number a group (true cost
minus perspective) and one a prediction (loss minus envelope); the largest is branched on, so that a node without any gap
is solved. Every part cut off leaves a leaf with its dual point: together they are the certificate.
"""

import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from solvers.dual import FREE, OFF, ON
from solvers.problem import Array, LayerProblem
from solvers.relu.certificate import ReluCertificate, ReluLeaf, certify_relu
from solvers.relu.incumbent import Incumbent
from solvers.relu.loss import Signs, relu_loss, split
from solvers.relu.node import NodePoint, Walk
from solvers.relu.ranges import close_count
from solvers.result import relative_gap

DESCEND_EVERY = 5
ROUNDED = 0.5


class ReluTree(NamedTuple):
    certificate: ReluCertificate
    complete: bool
    nodes: int


@dataclass(frozen=True, eq=False)
@final
class _Node:
    states: NDArray[np.int8]
    signs: Signs
    point: NodePoint


def grow_relu_tree(
    problem: LayerProblem,
    incumbent: Incumbent,
    gap: float,
    deadline: float,
    observe: Callable[[float], None] = lambda bound: None,
) -> ReluTree:
    """Until every leaf is within the relative `gap` of the incumbent, or until `deadline` (perf_counter).

    The incumbent is improved on the way; `observe(bound)` hears the bound before each branching. The root is always
    proven, however little time there is.
    """
    everything = np.full(problem.n_groups, FREE, dtype=np.int8)
    leaves, nodes = grow_leaves(problem, incumbent, everything, gap, deadline, observe)
    certificate = certify_relu(problem, leaves, incumbent.value)
    return ReluTree(certificate, relative_gap(incumbent.value, certificate.bound) <= gap, nodes)


def grow_leaves(
    problem: LayerProblem,
    incumbent: Incumbent,
    states: NDArray[np.int8],
    gap: float,
    deadline: float,
    observe: Callable[[float], None] = lambda bound: None,
) -> tuple[list[ReluLeaf], int]:
    """Leaves that cover the part of the program with groups fixed by `states` (p,), and how many nodes it took."""
    signs = np.full(problem.targets2d.shape, FREE, dtype=np.int8)
    order, closed, nodes = itertools.count(), list[ReluLeaf](), 1
    root = _solve(incumbent, states, signs, incumbent.solver.start(incumbent.weights), gap, deadline, -np.inf)
    open_nodes = [(root.point.bound, next(order), root)]
    while open_nodes and open_nodes[0][0] < _goal(incumbent, gap) and time.perf_counter() < deadline:
        bound, _, node = heapq.heappop(open_nodes)
        observe(bound)
        if nodes % DESCEND_EVERY <= 1:
            kept = np.asarray(problem.regulariser.indicator(problem.gather(node.point.weights))) > ROUNDED
            incumbent.improve((kept | (node.states == ON)) & (node.states != OFF), node.point.weights)
        children = _branch(problem, incumbent, node)
        if not children:  # nothing left to fix: only the node solver's accuracy is missing
            closed.append(_leaf(node))
            continue
        for child_states, child_signs in children:
            child = _solve(
                incumbent, child_states, child_signs, node.point.walk, gap, deadline, node.point.bound, node.point.dual
            )
            nodes += 1
            heapq.heappush(open_nodes, (child.point.bound, next(order), child))
    return closed + [_leaf(node) for _, _, node in open_nodes], nodes


def _goal(incumbent: Incumbent, gap: float) -> float:
    return incumbent.value * (1 - 0.9 * gap)


def _solve(
    incumbent: Incumbent,
    states: NDArray[np.int8],
    signs: Signs,
    walk: Walk,
    gap: float,
    deadline: float,
    parent: float,
    inherited: Array | None = None,
) -> _Node:
    ranges = incumbent.ranges.of(states)
    point = incumbent.solver.solve(states, signs, ranges, walk, cutoff=_goal(incumbent, gap), deadline=deadline)
    if point.bound < parent and inherited is not None:  # the parent's dual point proves at least its bound here too
        point = point._replace(bound=parent, dual=inherited)
    return _Node(states, signs, point)


def _branch(problem: LayerProblem, incumbent: Incumbent, node: _Node) -> list[tuple[NDArray[np.int8], Signs]]:
    """The two children at the largest gap; none where everything that matters is fixed. A child with too many groups has
    no point, and its leaf says so."""
    Y, states, signs, W = problem.targets2d, node.states, node.signs, node.point.weights
    unfixed = close_count(problem, states) == FREE
    low, high = incumbent.ranges.of(states)
    z = np.clip(problem.X @ W, low, high)
    free = (signs == FREE) & (Y > 0) & (high > 0)
    losses = np.where(free, relu_loss(z, Y) - split(Y, low, high, signs).value(z), -np.inf)
    vectors, r = problem.gather(W), problem.regulariser
    whole = np.sum(r.cost(vectors), axis=1) + np.where(np.any(vectors != 0, axis=1), r.price, 0.0)
    groups = np.where(unfixed, problem.strength * (whole - r.value(vectors)), -np.inf)
    if np.max(groups, initial=-np.inf) >= np.max(losses, initial=-np.inf):
        j = int(np.argmax(groups))
        if not np.isfinite(groups[j]):
            return []
        if groups[j] <= 0:  # no gap left but groups to fix (a count): the largest first
            j = int(np.argmax(np.where(unfixed, np.sum(vectors**2, axis=1), -1.0)))
        return [(_set(states, j, value), signs) for value in (OFF, ON)]
    i = int(np.argmax(losses))
    return [(states, _set(signs, i, value)) for value in (OFF, ON)]


def _set(marks: NDArray[np.int8], position: int, value: int) -> NDArray[np.int8]:
    changed = marks.copy()
    changed.flat[position] = value
    return changed


def _leaf(node: _Node) -> ReluLeaf:
    def where(marks: NDArray[np.int8], value: int) -> tuple[int, ...]:
        return tuple(int(k) for k in np.flatnonzero(marks == value))

    off, on = where(node.states, OFF), where(node.states, ON)
    return ReluLeaf(off, on, where(node.signs, ON), where(node.signs, OFF), node.point.dual)
