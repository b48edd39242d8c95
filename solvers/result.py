"""What every backend returns: a status, a point with its true value, a lower bound, and a proof of a lower bound."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from perspective.errors import CheckFailed
from solvers.dual import FREE, OFF, ON, Relaxation, dual_value, plain
from solvers.problem import Array, LayerProblem
from solvers.split.leaf import Frame, SplitLeaf, SplitProof


@final
class Status(StrEnum):
    OPTIMAL = "optimal"  # the gap asked for is reached
    FEASIBLE = "feasible"  # a point and a valid bound, the gap asked for is not reached for numerical reasons
    TIME_LIMIT = "time_limit"  # stopped by the time limit; incumbent and bound are valid
    INFEASIBLE = "infeasible"  # the solver says so; there is no point
    FAILED = "failed"  # the solver gave no usable answer; there is no point


@dataclass(frozen=True, eq=False)
@final
class Leaf:
    """One part of a proof: groups fixed to 0, groups fixed to 1, and the dual point U (samples, outputs) for the rest."""

    off: tuple[int, ...]
    on: tuple[int, ...]
    dual: Array

    def states(self, n_groups: int) -> NDArray[np.int8]:
        states = np.full(n_groups, FREE, dtype=np.int8)
        states[list(self.off)] = OFF
        states[list(self.on)] = ON
        return states


@dataclass(frozen=True, eq=False)
@final
class Certificate:
    """A proof that no point is below `bound`: leaves that cover every choice of indicators, each with a dual point.

    relaxation "perspective" proves a bound of the mixed-integer program (and of its perspective relaxation where nothing
    is fixed); "big_m" proves one of the weaker big-M relaxation, hence of the program too. Leaves that split the
    curvature (squared loss, cost a s^2) share a `frame`.
    """

    bound: float
    leaves: tuple[Leaf | SplitLeaf, ...]
    relaxation: Relaxation = "perspective"
    frame: Frame | None = None

    def check(self, problem: LayerProblem) -> None:
        """Recompute cover and bound from scratch in numpy; raises CheckFailed naming what does not hold."""
        if not np.isfinite(self.bound):
            raise CheckFailed(f"the certificate's bound is {self.bound}")
        p, shape = problem.n_groups, problem.targets2d.shape
        for leaf in self.leaves:
            if not isinstance(leaf, Leaf | SplitLeaf):
                raise CheckFailed(f"a {type(leaf).__name__} is no leaf of this certificate")
            if isinstance(leaf, Leaf) and not plain(leaf.dual, shape):
                raise CheckFailed(
                    f"the certificate's dual point must be finite float64 of the predictions' shape {shape}"
                )
            fixed = leaf.off + leaf.on
            if len(set(fixed)) != len(fixed) or any(not 0 <= j < p for j in fixed):
                raise CheckFailed("a leaf of the certificate fixes a group twice or one that does not exist")
        if not covers(((_mask(leaf.off), _mask(leaf.on)) for leaf in self.leaves), problem.at_most):
            raise CheckFailed("the certificate's leaves do not cover every choice of indicators")
        proof = None
        for leaf in self.leaves:
            if isinstance(leaf, SplitLeaf):
                proof = proof or self._split_proof(problem)
                found = proof.value(leaf)
            else:
                found = dual_value(problem, leaf.dual, leaf.states(p), self.relaxation)
            if not self.bound <= found.value - found.error:
                raise CheckFailed(f"the certificate claims {self.bound!r}, its dual point proves {found.value!r}")

    def _split_proof(self, problem: LayerProblem) -> SplitProof:
        if self.frame is None:
            raise CheckFailed("the certificate splits the curvature, but lacks the frame of the split")
        return SplitProof(problem, self.frame)


def certify(problem: LayerProblem, leaves: Iterable[Leaf], relaxation: Relaxation = "perspective") -> Certificate:
    """The certificate of the leaves, its bound twice the rounding error below what they prove, so that `check` passes.

    The second error leaves room for another machine's order of summation.
    """
    kept = tuple(leaves)
    values = [dual_value(problem, leaf.dual, leaf.states(problem.n_groups), relaxation) for leaf in kept]
    return Certificate(min(v.value - 2 * v.error for v in values), kept, relaxation)


def covers(leaves: Iterable[tuple[int, int]], room: int | None = None) -> bool:
    """Whether the (off, on) bit masks cover every 0-1 vector, of at most `room` ones where that is given.

    Exact, by splitting on the group most leaves fix.
    """
    left = list(leaves)
    if room is not None and room < 0:
        return True
    if any(off == 0 and on == 0 for off, on in left):
        return True
    if not left:
        return False
    # the root variable of a binary tree is fixed in all of its leaves, so a tree's cover is checked in linear time a level
    counts: dict[int, int] = {}
    for off, on in left:
        bits = off | on
        while bits:
            low = bits & -bits
            counts[low] = counts.get(low, 0) + 1
            bits ^= low
    split = max(counts, key=lambda bit: counts[bit])
    zero = [(off & ~split, on) for off, on in left if not on & split]
    one = [(off, on & ~split) for off, on in left if not off & split]
    return covers(zero, room) and covers(one, None if room is None else room - 1)


class Proof(Protocol):
    """What a certificate is to its users: a bound, and a check that recomputes it (a layer behind a ReLU has its own)."""

    @property
    def bound(self) -> float: ...
    def check(self, problem: LayerProblem) -> None: ...


@dataclass(frozen=True, eq=False)
@final
class Result:
    """A backend's answer, the same for all.

    objective    value of `weights` recomputed by the problem; +inf where there is no point
    lower_bound  the backend's bound (see the backend for what it rests on); -inf where there is none
    weights      (d,) or (d, outputs), or None;  indicators (p,) bool (relaxations: floats in [0, 1]), or None
    nodes        nodes, rounds or iterations, the backend's own count
    certificate  what our own dual proves, or None where there is no point; its bound may be below lower_bound, never above
                 the true optimum
    history      (seconds, best value, lower bound) over time, where the backend keeps it
    notes        what a user should know besides: sentences
    """

    status: Status
    objective: float
    lower_bound: float
    weights: Array | None
    indicators: NDArray[np.bool_] | Array | None
    seconds: float
    nodes: int
    backend: str
    certificate: Proof | None
    history: tuple[tuple[float, float, float], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def gap(self) -> float:
        """Relative gap (objective - lower_bound) / max(1e-12, |objective|); +inf where there is no point."""
        return relative_gap(self.objective, self.lower_bound)


def relative_gap(objective: float, lower_bound: float) -> float:
    if not (np.isfinite(objective) and np.isfinite(lower_bound)):
        return float("inf")
    return (objective - lower_bound) / max(1e-12, abs(objective))


def no_result(status: Status, seconds: float, backend: str) -> Result:
    """The answer of a solver that found nothing: no point, no bound."""
    return Result(status, float("inf"), float("-inf"), None, None, seconds, 0, backend, None)


def _mask(groups: tuple[int, ...]) -> int:
    return sum(1 << int(j) for j in groups)
