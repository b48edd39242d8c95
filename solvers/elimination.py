"""Nested choices of groups by backward elimination: the greedy path, and the values along any given order.

Value of a set S (no price, no box):  f(S) = min ||X W - Y||^2 + ridge ||W||^2 with W = 0 outside S.  With H = X'X + ridge I
on S and W its solution, dropping group J raises f by  sum_o w_Jo' [(H^-1)_JJ]^-1 w_Jo  (Hassibi and Stork 1993, for groups),
and a rank-|J| update gives the inverse and the solution of what is left: a whole path costs a few factorisations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from perspective.errors import InputError
from solvers.problem import Array

REFRESH = 8  # removals between fresh factorisations: rounding does not pile up


@dataclass(frozen=True, eq=False)
@final
class Nested:
    """order: the groups, first dropped first; values (p + 1,): f of the k groups that are dropped last, at index k."""

    order: tuple[int, ...]
    values: Array

    def support(self, count: int) -> NDArray[np.bool_]:
        """(p,) the `count` groups dropped last."""
        kept = np.zeros(len(self.order), dtype=bool)
        kept[list(self.order[len(self.order) - count :])] = True
        return kept


def eliminate(X: Array, Y: Array, labels: NDArray[np.intp], ridge: float, order: Sequence[int] | None = None) -> Nested:
    """Drop group after group: always the cheapest one (greedy), or as `order` says. X (n, d), Y (n, o), labels (d,) 0..p-1.

    ridge > 0, so that every set has one solution; InputError otherwise.
    """
    if not (np.isfinite(ridge) and ridge > 0):
        raise InputError(f"ridge must be finite and > 0, not {ridge}")
    p = int(labels.max()) + 1
    members = {j: np.flatnonzero(labels == j) for j in range(p)}
    gram, cross, squares = X.T @ X, X.T @ Y, float(np.sum(Y**2))
    values = np.empty(p + 1)
    values[0] = squares
    dropped: list[int] = []
    left = list(range(p))
    for step in range(p):
        if step % REFRESH == 0:
            columns = np.concatenate([members[j] for j in left])
            place = {j: np.flatnonzero(labels[columns] == j) for j in left}
            inverse = np.linalg.inv(gram[np.ix_(columns, columns)] + ridge * np.eye(len(columns)))
            W = inverse @ cross[columns]
            residual = X[:, columns] @ W - Y
            values[len(left)] = float(np.sum(residual**2)) + ridge * float(np.sum(W**2))
        rises = {j: _rise(inverse, W, place[j]) for j in (left if order is None else [order[step]])}
        j = min(rises, key=lambda k: (rises[k], k))
        if len(left) > 1:
            values[len(left) - 1] = values[len(left)] + rises[j]
        J = place[j]
        pull = np.linalg.solve(inverse[np.ix_(J, J)], np.hstack([W[J], inverse[J]]))
        W = W - inverse[:, J] @ pull[:, : W.shape[1]]
        inverse = inverse - inverse[:, J] @ pull[:, W.shape[1] :]
        W[J] = 0.0
        dropped.append(j)
        left.remove(j)
    return Nested(tuple(dropped), values)


def _rise(inverse: Array, W: Array, J: NDArray[np.intp]) -> float:
    return float(np.sum(W[J] * np.linalg.solve(inverse[np.ix_(J, J)], W[J])))
