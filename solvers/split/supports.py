"""Good supports for the squared loss with a ridge: exact values from the normal equations, and a search by moves.

The value of a support S is constant - tr B_S' A_SS^-1 B_S + price |S| (no box); a move adds, drops or swaps a group.
"""

import time
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from solvers.problem import Array
from solvers.split.elimination import eliminate_groups
from solvers.split.program import Split

Mask = NDArray[np.bool_]
SWAPS = 8  # drops tried as the first half of a swap, the cheapest first


@final
class Supports:
    """Values of the supports met so far (each computed once), and the best of them."""

    def __init__(self, split: Split, deadline: float) -> None:
        self.split, self.deadline = split, deadline
        self.known: dict[bytes, float] = {}
        self.best: Mask = np.zeros(len(split.whitener), dtype=bool)
        self.value = split.constant
        self.known[self.best.tobytes()] = self.value

    def look_up(self, support: Mask) -> float:
        """Value of a support; +inf with too many groups."""
        key = support.tobytes()
        if key not in self.known:
            self.known[key] = self._value(support)
            if self.known[key] < self.value:
                self.value, self.best = self.known[key], support.copy()
        return self.known[key]

    def weights(self, support: Mask) -> Array:
        """(d, o) weights of the fit on a support."""
        groups = np.flatnonzero(support)
        rows = self.split.features(groups)
        fit = np.linalg.solve(self.split.A[np.ix_(rows, rows)], self.split.Bt[:, rows].T)
        return self.split.weights(groups, np.ascontiguousarray(fit.T))

    def eliminate(self) -> None:
        """Drop the cheapest group, from all of them on, to the last one: greedy supports of every size.

        The values on the way are exact in exact arithmetic; the best few are computed again.
        """
        split = self.split
        inverse = np.linalg.inv(split.A)
        order = eliminate_groups(inverse.copy(), inverse @ split.Bt.T, split.size)
        support = np.ones(len(split.whitener), dtype=bool)
        path = []
        for j in order:
            support[j] = False
            path.append(support.copy())
        # values along the path are unimodal in practice: golden section would do, a coarse pass then a fine one is safe
        coarse = max(1, len(path) // 8)
        values = {i: self.look_up(path[i]) for i in range(0, len(path), coarse)}
        middle = min(values, key=lambda i: values[i])
        for i in range(max(middle - coarse + 1, 0), min(middle + coarse, len(path))):
            if time.perf_counter() > self.deadline:
                return
            self.look_up(path[i])

    def trim(self, support: Mask) -> Mask:
        """The support less its cheapest groups, one at a time, until there is room for it."""
        support = support.copy()
        while np.count_nonzero(support) > self.split.room:
            inside = np.flatnonzero(support)
            support[inside[int(np.argmin(self.moves(support)[inside]))]] = False
        return support

    def improve(self, support: Mask) -> None:
        """Best single moves while they help, then swaps; from `support`."""
        support = support.copy()
        value = self.look_up(support)
        while time.perf_counter() < self.deadline:
            change = self.moves(support)
            j = int(np.argmin(change))
            if change[j] < -1e-12 * abs(value):
                support[j] = not support[j]
            else:
                swapped = self._swap(support, value, change)
                if swapped is None:
                    return
                support = swapped
            before, value = value, self.look_up(support)
            if not value < before:  # rounding
                return

    def moves(self, support: Mask) -> Array:
        """(p,) change of the value when a group in the support is dropped, or one outside it added; +inf where full."""
        split, s = self.split, self.split.size
        change = np.full(len(support), np.inf)
        inside, outside = np.flatnonzero(support), np.flatnonzero(~support)
        rows, others = split.features(inside), split.features(outside)
        residual = split.Bt[:, others]
        curvature = np.broadcast_to(np.eye(s), (len(outside), s, s))
        if len(inside):
            inverse = np.linalg.inv(split.A[np.ix_(rows, rows)])
            fit = split.Bt[:, rows] @ inverse
            own = _diagonal_blocks(inverse, s)
            blocks = fit.reshape(-1, len(inside), s).transpose(1, 2, 0)
            change[inside] = np.einsum("gao,gao->g", blocks, np.linalg.solve(own, blocks)) - split.price
            if len(outside):
                cross = split.A[np.ix_(rows, others)]
                residual = residual - fit @ cross
                pressed = (inverse @ cross).reshape(len(rows), -1, s)
                curvature = curvature - np.einsum("rga,rgb->gab", cross.reshape(len(rows), -1, s), pressed)
        if len(outside) and len(inside) < split.room:
            blocks = residual.reshape(-1, len(outside), s).transpose(1, 2, 0)
            change[outside] = split.price - np.einsum("gao,gao->g", blocks, np.linalg.solve(curvature, blocks))
        return change

    def _swap(self, support: Mask, value: float, change: Array) -> Mask | None:
        drops = np.flatnonzero(support)
        for i in drops[np.argsort(change[drops])][:SWAPS]:
            without = support.copy()
            without[i] = False
            added = self.moves(without)
            added[without] = np.inf
            added[i] = np.inf
            j = int(np.argmin(added))
            without[j] = np.isfinite(added[j])
            if self.look_up(without) < value - 1e-12 * abs(value):
                return without
            if time.perf_counter() > self.deadline:
                return None
        return None

    def _value(self, support: Mask) -> float:
        groups = np.flatnonzero(support)
        if len(groups) > self.split.room:
            return np.inf
        rows = self.split.features(groups)
        targets = self.split.Bt[:, rows]
        explained = np.sum(targets.T * np.linalg.solve(self.split.A[np.ix_(rows, rows)], targets.T))
        return self.split.constant - float(explained) + self.split.price * len(groups)


def _diagonal_blocks(matrix: NDArray[Any], s: int) -> Array:
    g = len(matrix) // s
    places = np.arange(g)
    return matrix.reshape(g, s, g, s)[places, :, places, :]
