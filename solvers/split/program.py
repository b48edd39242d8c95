"""The squared loss with a quadratic cost, its curvature split in two: what the indicators see, and the rest.

With A = X'X + strength a I and B = X'Y the program is  min ||Y||^2 + tr W'AW - 2 tr B'W + price sum y.  For any blocks
E_j >= 0 with blockdiag(E) <= A the terms tr W_j'E_jW_j may be divided by y_j (they are unchanged at y in {0, 1}), which
makes the relaxation tighter the larger E is (Frangioni and Gentile 2006; the perspective alone has E = strength a I).
After W is minimised out,

    h(y) = price sum y - sum_k tr B_k'(A - E_k + E_k / y)^-1 B_k

is convex in y and concave in E. Two things go beyond one E of multiples of A_jj: full blocks, chosen for the bound
itself by maximising over E while minimising over y; and, since the loss and the cost do not change when the outputs are
rotated, blocks of their own for clusters of principal outputs. Any y and any E give a bound, through h's tangent at y.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from perspective.errors import InputError
from solvers.problem import Array, LayerProblem

ROUNDING = 1e-11  # stated slack, relative to the magnitudes that are added up, of a well-conditioned problem
EPS = float(np.finfo(np.float64).eps)
CLEAR = 1e-3  # a least eigenvalue not below this, of a unit diagonal, takes no digits worth a closer look
SINGULAR = 1e-11  # a whitened Gram matrix with a smaller eigenvalue has no digits to split


@dataclass(frozen=True, eq=False)
@final
class Split:
    """Whitened normal equations of a layer: groups padded to one size s, identity blocks on A's diagonal.

    A (p s, p s); Bt (o, p s) rotated targets; starts (K + 1,) bounds of the output clusters; constant = ||Y||^2; price of
    a group; room = the most groups that may be kept; whitener (p, s, s) with W_features = whitener_j' W_j; smallest
    eigenvalue of A; slack = stated relative rounding of any bound computed here. slots (p, s): feature of each padded place,
    d where there is none.
    """

    problem: LayerProblem
    A: Array
    Bt: Array
    starts: NDArray[np.int64]
    rotation: Array
    whitener: Array
    slots: NDArray[np.intp]
    constant: float
    price: float
    room: int
    smallest: float
    slack: float

    @property
    def size(self) -> int:
        return self.whitener.shape[1]

    @property
    def floor(self) -> float:
        return min(1e-5, 0.1 * self.smallest)

    @property
    def margin(self) -> float:
        return min(1e-10, 1e-3 * self.smallest)

    def features(self, groups: NDArray[np.intp]) -> NDArray[np.intp]:
        """Whitened places of the groups, in order."""
        return (groups[:, None] * self.size + np.arange(self.size)).ravel()

    @cached_property
    def reach(self) -> Array:
        """(K,) at least max ||R_k' v||^2 over |v| <= 1: how far a cluster's rotated weights get in a box of the outputs' own.

        A rotated output r may reach ||r||_1, all of them together ||v||^2 <= o. Rounded up by what a rotation may miss.
        """
        outputs = len(self.Bt)
        if outputs == 1:
            return np.ones(1)
        squares = np.sum(np.abs(self.rotation), axis=0) ** 2
        return np.minimum(np.add.reduceat(squares, self.starts[:-1]), outputs) * (1 + 1e-10)

    def prices(self, box: Array) -> Array:
        """Price of each group (f,) less what the box multipliers (K, f, s) give back: reach M^2 t."""
        M = self.problem.regulariser.bound
        if M is None:
            return np.full(box.shape[1], self.price)
        return self.price - M**2 * np.einsum("k,kja->j", self.reach, box)

    def round_down(self, bound: float) -> float:
        """The bound less what a proof's rounding takes off, and as much again for another machine's order of summation."""
        return bound - 4 * self.slack * (2 * self.constant + abs(bound))

    def weights(self, groups: NDArray[np.intp], Wt: Array) -> Array:
        """(d, o) weights of the layer from whitened, rotated ones of some groups, (o, g s)."""
        d, o, s = self.problem.X.shape[1], len(self.Bt), self.size
        full = np.zeros((d + 1, o))
        blocks = (self.rotation @ Wt).reshape(o, len(groups), s)
        full[self.slots[groups]] = np.einsum("gab,oga->gbo", self.whitener[groups], blocks)
        return full[:d]


def can_split(problem: LayerProblem) -> bool:
    """Whether loss and cost are the ones this relaxation is about: squared, a s^2 with a > 0."""
    quadratic = problem.regulariser.quadratic
    return problem.loss == "squared" and quadratic is not None and quadratic[0] > 0 and quadratic[1] == 0


def normal_equations(problem: LayerProblem) -> tuple[Array, Array]:
    """A = X'X + strength a I (d, d) and B = X'Y (d, o)."""
    quadratic = problem.regulariser.quadratic
    assert quadratic is not None
    A = problem.X.T @ problem.X
    A.ravel()[:: len(A) + 1] += problem.strength * quadratic[0]
    return A, problem.X.T @ problem.targets2d


def split_problem(problem: LayerProblem, clusters: int) -> Split:
    """Rotate to principal outputs and cluster them: the largest ones alone, all the others together.

    InputError where the Gram matrix cannot even be factorised.
    """
    A, B = normal_equations(problem)
    outputs = B.shape[1]
    starts = np.array([*range(max(1, min(clusters, outputs))), outputs], dtype=np.int64)
    try:
        rotation = np.linalg.eigh(B.T @ np.linalg.solve(A, B))[1][:, ::-1] if outputs > 1 else np.ones((1, 1))
        return split_frame(problem, A, B, starts, np.ascontiguousarray(rotation))
    except np.linalg.LinAlgError as error:
        raise InputError(
            "the inputs' Gram matrix with the ridge is singular to rounding; use a larger alpha"
        ) from error


def split_frame(problem: LayerProblem, A: Array, B: Array, starts: NDArray[np.int64], rotation: Array) -> Split:
    """Pad the groups to one size and whiten: each group's own block of A becomes the identity.

    numpy's LinAlgError where a block is not positive definite to rounding.
    """
    slots, d = problem.slots, len(A)
    skew = float(np.linalg.norm(rotation.T @ rotation - np.eye(len(rotation)), 2)) if len(rotation) > 1 else 0.0
    p, s = slots.shape
    place = slots.ravel()
    if len(place) > d:  # empty places get a feature of their own that explains nothing
        padded = np.eye(d + p * s)
        padded[:d, :d] = A
        place = np.where(slots == d, d + np.arange(p * s).reshape(p, s), slots).ravel()
        A, B = padded, np.vstack([B, np.zeros((p * s, B.shape[1]))])
    A, B = A[np.ix_(place, place)], (B @ rotation)[place]
    places = np.arange(p)
    scale = 1 / np.sqrt(np.diagonal(A).reshape(p, s))
    own = scale[:, :, None] * A.reshape(p, s, p, s)[places, :, places, :] * scale[:, None, :]
    whitener = np.linalg.inv(np.linalg.cholesky(own)) * scale[:, None, :]
    unwhitened, A, B = A, whiten(A, whitener), (whitener @ B.reshape(p, s, -1)).reshape(p * s, -1)
    smallest = float(np.linalg.eigvalsh(A)[0])
    # of A with a unit diagonal: at least this, for that is the whitened A between the groups' own factors
    least = smallest * float(np.min(np.linalg.eigvalsh(own)) if s > 1 else 1.0)
    if s > 1 and least < CLEAR:
        least = float(np.linalg.eigvalsh(scale.reshape(-1, 1) * unwhitened * scale.ravel())[0])
    # forming and solving the normal equations loses their condition number, and a rotation as much as it is off
    slack = ROUNDING + EPS * float(np.sqrt(len(problem.X)) + d) / max(least, EPS) + 2 * skew
    return Split(
        problem=problem,
        A=A,
        Bt=np.ascontiguousarray(B.T),
        starts=starts,
        rotation=rotation,
        whitener=whitener,
        slots=slots,
        constant=float(np.sum(problem.targets2d**2)),
        price=problem.strength * problem.regulariser.price,
        room=problem.n_groups if problem.at_most is None else problem.at_most,
        smallest=smallest,
        slack=slack,
    )


def whiten(A: Array, whitener: Array) -> Array:
    """T A T' with T = blockdiag(whitener), symmetric to the last bit."""
    p, s, _ = whitener.shape
    half = (whitener @ A.reshape(p, s, -1)).reshape(p * s, -1)
    full = (whitener @ half.T.reshape(p, s, -1)).reshape(p * s, -1)
    return 0.5 * (full + full.T)


@dataclass(frozen=True, eq=False)
@final
class Condensed:
    """A part of the program with some groups off (dropped) and some on (minimised out exactly), in the free ones.

    value = the constant that is left, ||Y||^2 and the price of the groups on included; keep (o, on s) and link
    give the weights of the groups on: W_on = keep - W_free link, both whitened.
    """

    A: Array
    Bt: Array
    value: float
    free: NDArray[np.intp]
    on: NDArray[np.intp]
    keep: Array
    link: Array

    def complete(self, Wt: Array) -> tuple[NDArray[np.intp], Array]:
        """Groups and their weights (o, .), the free ones' given."""
        return np.concatenate([self.free, self.on]), np.hstack([Wt, self.keep - Wt @ self.link])


def condense(split: Split, states: NDArray[np.int8]) -> Condensed:
    """Schur complement of the groups on; states (p,): -1 off, 1 on, 0 free."""
    free, on = np.flatnonzero(states == 0), np.flatnonzero(states == 1)
    rows = split.features(free)
    A, Bt = split.A[np.ix_(rows, rows)], split.Bt[:, rows]
    value = split.constant + split.price * len(on)
    if len(on) == 0:
        empty = np.zeros((len(Bt), 0))
        return Condensed(A, np.ascontiguousarray(Bt), value, free, on, empty, np.zeros((len(rows), 0)))
    kept = split.features(on)
    cross, targets = split.A[np.ix_(rows, kept)], split.Bt[:, kept]
    solved: NDArray[Any] = np.linalg.solve(split.A[np.ix_(kept, kept)], np.vstack([cross, targets]).T)
    link: Array = solved[:, : len(rows)].T
    keep: Array = solved[:, len(rows) :].T
    A = A - cross @ link.T
    Bt = Bt - targets @ link.T
    value -= float(np.sum(targets * keep))
    return Condensed(0.5 * (A + A.T), np.ascontiguousarray(Bt), value, free, on, keep, link)
