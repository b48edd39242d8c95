"""Proof of a bound by a split of the curvature, recomputed from the data alone in numpy.

For a part of the program (groups `off` dropped, groups `on` minimised out exactly: A, B, constant v), blocks E_k with
0 < blockdiag(E_k) < A, and any V, weak duality of the quadratic form A - E_k gives for every W and y in [0, 1]

    value >= v - sum_k tr V_k'(A - E_k)V_k + sum_j y_j (price - sum_k tr C_kj' E_kj^-1 C_kj),   C_k = B_k - (A - E_k) V_k

V is taken where it is best, at the leaf's y: V_k = S (S (A - E_k) S + E_k)^-1 S B_k with S = diag(sqrt(y)).
A box |w| <= M y gives, for multipliers t >= 0, t (||R_k'w||^2 / y - reach_k M^2 y) <= 0 to add, R_k the cluster's part of
the rotation and w one feature's weights: sum_a t_ja x_a x_a' to E_kj where it stands alone (x_a picks feature a of group j),
and -reach_k M^2 sum_a t_ja to the group's price.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from perspective.errors import CheckFailed
from solvers.dual import DualValue, plain
from solvers.problem import Array, LayerProblem
from solvers.split.program import EPS, ROUNDING, SINGULAR, Split, can_split, condense, normal_equations, split_frame


@dataclass(frozen=True, eq=False)
@final
class Frame:
    """What the leaves of one proof share: clusters of outputs (K + 1,) after a rotation (o, o)."""

    starts: NDArray[np.int64]
    rotation: Array


@dataclass(frozen=True, eq=False)
@final
class SplitPoint:
    """A point of the dual: states (p,) that were fixed when it was found; y (f,), E (K, f, s, s) and the multipliers of
    the box (K, f, s) of the free groups."""

    states: NDArray[np.int8]
    y: Array
    E: Array
    box: Array


@dataclass(frozen=True, eq=False)
@final
class SplitLeaf:
    """One part of a proof: groups fixed off and on (at least those of the point), and the point that bounds it."""

    off: tuple[int, ...]
    on: tuple[int, ...]
    point: SplitPoint


@final
class SplitProof:
    """Recomputes leaves of one frame; the normal equations are formed once, a point once for all of its leaves."""

    def __init__(self, problem: LayerProblem, frame: Frame) -> None:
        self.problem, self.frame = problem, frame
        outputs = problem.targets2d.shape[1]
        if not can_split(problem):
            raise CheckFailed("the certificate splits the curvature; loss or cost of the problem has none to split")
        if not plain(frame.rotation, (outputs, outputs)):
            raise CheckFailed("the certificate's rotation does not have the outputs' shape")
        if np.max(np.abs(frame.rotation.T @ frame.rotation - np.eye(outputs))) > 1e-12:
            raise CheckFailed("the certificate's rotation of the outputs is not orthogonal")
        starts = frame.starts
        if len(starts) < 2 or starts[0] != 0 or starts[-1] != outputs or np.any(np.diff(starts) <= 0):
            raise CheckFailed("the certificate's clusters do not cover the outputs")
        singular = "the problem's Gram matrix is singular to rounding; no curvature can be split off"
        try:
            self.split: Split = split_frame(problem, *normal_equations(problem), starts, frame.rotation)
        except np.linalg.LinAlgError as error:
            raise CheckFailed(singular) from error
        if self.split.smallest < SINGULAR:
            raise CheckFailed(singular)
        self.points: dict[int, tuple[float, Array, float, Array]] = {}

    def value(self, leaf: SplitLeaf) -> DualValue:
        """What the leaf proves about its part; +inf where more groups are on than the problem allows."""
        states = np.zeros(self.problem.n_groups, dtype=np.int8)
        states[list(leaf.off)], states[list(leaf.on)] = -1, 1
        point = leaf.point
        if point.states.shape != states.shape or np.any((point.states != 0) & (point.states != states)):
            raise CheckFailed("a leaf of the certificate does not keep the groups its point has fixed")
        if id(point) not in self.points:
            with np.errstate(all="ignore"):  # what overflows is not finite in the end, and refused there
                self.points[id(point)] = self._bound(point)
        constant, reduced, size, sizes = self.points[id(point)]
        fixed = states[point.states == 0]
        room = self.split.room - int(np.count_nonzero(states == 1))
        if room < 0:
            return DualValue(np.inf, 0.0)
        chosen = np.sort(np.minimum(reduced[fixed == 0], 0.0))[:room]
        value = constant + float(np.sum(reduced[fixed == 1])) + float(np.sum(chosen))
        # a price clearly above what a group explains gives an exact zero, whatever its rounding
        counted = (fixed == 1) | ((fixed == 0) & (reduced < max(1e-6, 2 * self.split.slack) * sizes))
        return DualValue(value, self.split.slack * (size + float(np.sum(sizes[counted]))))

    def _bound(self, point: SplitPoint) -> tuple[float, Array, float, Array]:
        """Constant, reduced prices (f,) of the free groups, and the magnitudes of what was added up for both."""
        split, part = self.split, condense(self.split, point.states)
        f, s, clusters = len(part.free), split.size, len(split.starts) - 1
        y, E = point.y, point.E
        if not plain(y, (f,)) or not np.all((y > 0) & (y <= 1)):
            raise CheckFailed("the certificate's indicators are not between 0 and 1")
        if not plain(E, (clusters, f, s, s)):
            raise CheckFailed("the certificate's curvature blocks do not have the groups' shape")
        if not np.array_equal(E, E.swapaxes(2, 3)):
            raise CheckFailed("the certificate's curvature blocks are not symmetric")
        if not plain(point.box, (clusters, f, s)) or not np.all(point.box >= 0):
            raise CheckFailed("the certificate's box multipliers are not numbers >= 0, one for each weight of a group")
        if self.problem.regulariser.bound is None and np.any(point.box):
            raise CheckFailed("the certificate uses a box, the problem has none")
        constant, reduced, size = part.value, split.prices(point.box), split.constant + abs(part.value)
        sizes = 2 * split.price - reduced
        whitener = split.whitener[part.free]
        alone = E + np.einsum("kja,jba,jca->kjbc", point.box, whitener, whitener)
        places = np.arange(f)
        for k in range(clusters if f else 0):
            targets = part.Bt[split.starts[k] : split.starts[k + 1]].T
            rest = part.A.copy()
            rest.reshape(f, s, f, s)[places, :, places, :] -= E[k]
            root = np.repeat(np.sqrt(y), s)[:, None]
            inner = root * rest * root.T
            inner.reshape(f, s, f, s)[places, :, places, :] += alone[k]
            try:
                np.linalg.cholesky(rest - 0.5 * split.margin * np.eye(f * s))
                np.linalg.cholesky(E[k])
                V = root * np.linalg.solve(inner, root * targets)
                pressed = rest @ V
                C = targets - pressed
                weights = np.linalg.solve(alone[k], C.reshape(f, s, -1))
            except np.linalg.LinAlgError as error:
                raise CheckFailed("the certificate splits off more curvature than the problem has") from error
            explained = np.sum(C.reshape(f, s, -1) * weights, axis=(1, 2))
            # rounding of the solve, to first order: more than everything where a block is singular to rounding
            widths = np.sqrt(np.diagonal(alone[k], axis1=1, axis2=2))
            spread = np.sum(np.sum(widths[:, :, None] * np.abs(weights), axis=1) ** 2, axis=1)
            quadratic = float(np.sum(V * pressed))
            constant, size = constant - quadratic, size + abs(quadratic)
            reduced, sizes = reduced - explained, sizes + explained + 4 * s * EPS / ROUNDING * spread
        if not (np.isfinite(constant) and np.all(np.isfinite(reduced)) and np.all(np.isfinite(sizes))):
            raise CheckFailed("the certificate's point gives no finite prices")
        return constant, reduced, float(size), sizes
