"""Compiled backward elimination: the order in which groups leave a ridge fit, the cheapest first."""

import numpy as np
from numba import njit

from solvers.split.kernel import invert_small


@njit(cache=True, nogil=True)
def eliminate_groups(inverse, W, s):
    """Order (p,) in which groups leave, the cheapest first: dropping j adds tr W_j' (inverse_jj)^-1 W_j to the loss.

    inverse (d, d) of A and W (d, o) = A^-1 B of all groups are destroyed: each drop is a block step of Gauss and Jordan.
    """
    p, o = inverse.shape[0] // s, W.shape[1]
    order, left = np.empty(p, dtype=np.int64), np.ones(p, dtype=np.bool_)
    own, back = np.empty((s, s)), np.empty((s, s))
    for turn in range(p):
        best, cheapest = -1, np.inf
        for j in range(p):
            if not left[j]:
                continue
            own[:, :] = inverse[j * s : (j + 1) * s, j * s : (j + 1) * s]
            if not invert_small(own, back):
                continue
            cost = 0.0
            for a in range(s):
                for b in range(s):
                    for c in range(o):
                        cost += W[j * s + a, c] * back[a, b] * W[j * s + b, c]
            if best < 0 or cost < cheapest:
                best, cheapest = j, cost
        if best < 0:
            return order[:turn]
        order[turn] = best
        left[best] = False
        own[:, :] = inverse[best * s : (best + 1) * s, best * s : (best + 1) * s]
        if not invert_small(own, back):
            return order[: turn + 1]
        rows = np.ascontiguousarray(inverse[best * s : (best + 1) * s])
        pressed = np.dot(back, rows)
        W -= np.dot(pressed.T, np.ascontiguousarray(W[best * s : (best + 1) * s]))
        inverse -= np.dot(rows.T, pressed)
    return order
