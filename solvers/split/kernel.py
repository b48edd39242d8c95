"""Compiled arithmetic of the split relaxation: one look at a point, one step of the indicators, one of the curvature.

Everything is in whitened features: A (d, d) has identity blocks on its diagonal at the root, features of group j are
j*s .. j*s + s - 1, targets Bt (o, d). Outputs fall into clusters [starts[k], starts[k+1]); cluster k has its own
curvature blocks E[k] (p, s, s), 0 < E[k] and blockdiag(E[k]) < A. The relaxation is min over 0 <= y <= 1 of

    h(y) = price sum_j y_j + sum_k min_W [ tr W'(A - E_k)W - 2 tr B_k'W + sum_j tr W_j' E_kj W_j / y_j ]

(see solvers/split/program.py). A box |w_ja| <= M y_j adds, with multipliers t_ja >= 0 for each cluster, the terms
t_ja (w_ja^2 / y_j - reach_k M^2 y_j) of its outputs: blocks Theta_j in the place of E_j, but not taken from A, and a price of its
own for each group. No fastmath: a bound is computed here.
"""

from functools import lru_cache

import numpy as np
from numba import njit

from solvers.split.lapack import factor, invert, invert_factored, invert_roughly, press_roughly, solve_factored

WALL = 0.1  # weight of the barrier at the floor against the barrier of A - E
TILE = 32  # rows of a tile of a matrix read both ways
LEAST = 1e-5  # indicators stay above, where the formulas need no limit; the bound knows 0


@njit(cache=True, nogil=True)
def invert_small(a, out):
    """Inverse of the positive definite a (s, s) into out; False where it is not."""
    s = a.shape[0]
    if s == 1:
        out[0, 0] = 1.0 / a[0, 0] if a[0, 0] > 0.0 else 0.0
        return a[0, 0] > 0.0
    low = np.zeros((s, s))
    for i in range(s):
        for j in range(i + 1):
            total = a[i, j]
            for m in range(j):
                total -= low[i, m] * low[j, m]
            if i == j:
                if not total > 0.0:
                    return False
                low[i, i] = np.sqrt(total)
            else:
                low[i, j] = total / low[j, j]
    # columns of the factor's inverse, then its own square
    for i in range(s):
        low[i, i] = 1.0 / low[i, i]
        for j in range(i):
            total = 0.0
            for m in range(j, i):
                total -= low[i, m] * low[m, j]
            low[i, j] = total * low[i, i]
    for i in range(s):
        for j in range(i + 1):
            total = 0.0
            for m in range(i, s):
                total += low[m, i] * low[m, j]
            out[i, j] = total
            out[j, i] = total
    return True


@njit(cache=True, nogil=True)
def subtract_bend(K, C, s, hessian):
    """hessian_jk -= tr C_j' (K^-1)_jk C_k, C (o, d), K as `factor` left it: through each output's own columns, or the inverse."""
    o, d = C.shape
    p = d // s
    if 3 * o * p < 2 * d:  # fewer multiplications than K's inverse
        rows = np.empty((p, d), dtype=np.float32)
        for c in range(o):
            rows[:] = 0.0
            for j in range(p):
                for a in range(j * s, (j + 1) * s):
                    rows[j, a] = C[c, a]
            press_roughly(K, rows)
            hessian -= np.dot(rows, rows.T)
        return
    rough, M = invert_factored(K), np.dot(C.T, C)
    for j in range(p):
        for i in range(p):
            total = 0.0
            for a in range(s):
                for b in range(s):
                    total += rough[j * s + a, i * s + b] * M[j * s + a, i * s + b]
            hessian[j, i] -= total


@njit(cache=True, nogil=True)
def assess(A, Bt, starts, E, Theta, y, prices):
    """h, its gradient (p,) and Hessian (p, p), W (o, d), and pull (K, p, s, s) = U_j U_j' of each cluster, at y >= LEAST.

    K(y) = S (A - E) S + E + Theta, S = diag(sqrt(y)); W = S K^-1 S B; C = B - (A - E) W; U_j = (E_j + Theta_j)^-1 C_j;
    gradient_j = prices_j - tr C_j' U_j;  Hessian_jk = 2 (delta_jk tr C_j'U_j - tr C_j' (K^-1)_jk C_k) / sqrt(y_j y_k).
    `ok` is False where a factorisation fails.
    """
    p, s, d = y.size, E.shape[2], A.shape[0]
    gradient, hessian = prices.copy(), np.zeros((p, p))
    weights, pull = np.empty_like(Bt), np.empty_like(E)
    h = np.sum(prices * y)
    root = np.empty(d)
    for j in range(p):
        root[j * s : (j + 1) * s] = np.sqrt(y[j])
    inverse, whole = np.empty((s, s)), np.empty((s, s))
    for k in range(len(starts) - 1):
        targets = Bt[starts[k] : starts[k + 1]]
        K = np.empty((d, d))
        for a in range(d):
            for b in range(d):
                K[a, b] = root[a] * root[b] * A[a, b]
        for j in range(p):
            for a in range(s):
                for b in range(s):
                    K[j * s + a, j * s + b] += (1.0 - y[j]) * E[k, j, a, b] + Theta[k, j, a, b]
        if not factor(K):
            return False, h, gradient, hessian, weights, pull
        W = targets * root
        solve_factored(K, W)
        W *= root
        C = targets - np.dot(W, A)
        for j in range(p):
            C[:, j * s : (j + 1) * s] += np.dot(W[:, j * s : (j + 1) * s].copy(), E[k, j])
        weights[starts[k] : starts[k + 1]] = W
        h -= np.sum(targets * W)
        for j in range(p):
            for a in range(s):
                for b in range(s):
                    whole[a, b] = E[k, j, a, b] + Theta[k, j, a, b]
            if not invert_small(whole, inverse):
                return False, h, gradient, hessian, weights, pull
            U = np.dot(C[:, j * s : (j + 1) * s].copy(), inverse)
            explained = np.sum(U * C[:, j * s : (j + 1) * s])
            pull[k, j] = np.dot(U.T, U)
            gradient[j] -= explained
            hessian[j, j] += explained
        subtract_bend(K, C, s, hessian)
    for j in range(p):
        for i in range(p):
            hessian[j, i] *= 2.0 / np.sqrt(y[j] * y[i])
    return True, h, gradient, hessian, weights, pull


@njit(cache=True, nogil=True)
def lowest(gradient, room):
    """min of gradient . y over 0 <= y <= 1, sum y <= room."""
    negative = np.sort(gradient[gradient < 0.0])
    return np.sum(negative[:room])


@njit(cache=True, nogil=True)
def descend(H, slope, change, low, high, sweeps):
    """Coordinate descent on change'H change / 2 + slope . change in a box, from `change`, in place."""
    p = slope.size
    residual = slope + np.dot(H, change)
    for _ in range(sweeps):
        largest = 0.0
        for j in range(p):
            target = change[j] - residual[j] / H[j, j]
            target = min(max(target, low[j]), high[j])
            step = target - change[j]
            if step != 0.0:
                change[j] = target
                for i in range(p):
                    residual[i] += step * H[i, j]
                largest = max(largest, abs(step))
        if largest < 1e-7:
            break


@njit(cache=True, nogil=True)
def step_indicators(y, gradient, hessian, room):
    """Newton step of y in the box [LEAST, 1], sum y <= room: the quadratic model's minimiser."""
    p = y.size
    H = hessian.copy()
    trace = 0.0
    for j in range(p):
        trace += H[j, j]
    for j in range(p):
        H[j, j] += 1e-9 * trace / p + 1e-300
    change = np.zeros(p)
    low, high = np.maximum(LEAST, 0.1 * y) - y, 1.0 - y
    descend(H, gradient, change, low, high, 100)
    if np.sum(y + change) > room + 1e-9:
        # a multiplier on the sum: the sum falls monotonically with it
        cheap, dear = 0.0, np.max(np.abs(gradient)) + 1e-300
        for _ in range(30):
            descend(H, gradient + dear, change, low, high, 100)
            if np.sum(y + change) <= room:
                break
            dear *= 4.0
            if np.sum(y + low) > room:
                break
        for _ in range(25):
            middle = 0.5 * (cheap + dear)
            descend(H, gradient + middle, change, low, high, 30)
            if np.sum(y + change) > room:
                cheap = middle
            else:
                dear = middle
        descend(H, gradient + dear, change, low, high, 100)
    return y + change


@njit(cache=True, nogil=True)
def _square_trace(product):
    """tr product^2 of a (d, d) matrix, by tiles that stay in the cache."""
    d, total = product.shape[0], 0.0
    for i in range(0, d, TILE):
        for j in range(0, d, TILE):
            for a in range(i, min(i + TILE, d)):
                for b in range(j, min(j + TILE, d)):
                    total += product[a, b] * product[b, a]
    return total


@njit(cache=True, nogil=True)
def _radius(product):
    """Spectral radius of a (d, d) matrix with real eigenvalues, by a few power iterations: from below."""
    vector = np.ones(product.shape[0], dtype=product.dtype)
    size = 1.0
    for i in range(vector.size):
        vector[i] += 0.5 * np.sin(7.0 * i)
    for _ in range(10):
        vector = np.dot(product, vector)
        size = np.sqrt(np.sum(vector * vector))
        if not size > 0.0:
            return 0.0
        vector /= size
    return size


@njit(cache=True, nogil=True)
def step_curvature(A, E, pull, y, barrier, floor, margin):
    """One damped Newton-like step of the blocks on the barrier problem, in place; False where A - E lost its margin.

    Ascends h + barrier [ log det (A - E - margin) + WALL log det (E - floor) ]: dh/dE_j = y_j (1 - y_j) U_j U_j'
    (Danskin). The direction takes the barrier's Hessian without its blocks off the diagonal, the step length the whole
    Hessian, damped by the distance to the cone's border; a factorisation confirms that the step stays inside.
    """
    d, s, p = A.shape[0], E.shape[2], E.shape[1]
    own, wall, work, scaled = np.empty((s, s)), np.empty((s, s)), np.empty((s, s)), np.empty((s, s))
    for k in range(E.shape[0]):
        N = A.copy()
        for j in range(p):
            for a in range(s):
                for b in range(s):
                    N[j * s + a, j * s + b] -= E[k, j, a, b]
                N[j * s + a, j * s + a] -= margin
        rough, good = invert_roughly(N)
        if not good:
            if not invert(N):
                return False
            rough = N.astype(np.float32)
        change, slope, wall_bend, walled = np.empty((p, s, s)), 0.0, 0.0, 0.0
        for j in range(p):
            weight = y[j] * (1.0 - y[j])
            for a in range(s):
                for b in range(s):
                    own[a, b] = E[k, j, a, b]
                own[a, a] -= floor
            if not invert_small(own, wall):
                return False
            for a in range(s):
                for b in range(s):
                    inner = np.float64(rough[j * s + a, j * s + b])
                    work[a, b] = weight * pull[k, j, a, b] / barrier - inner + WALL * wall[a, b]
                    own[a, b] = inner + np.sqrt(WALL) * wall[a, b]
            if not invert_small(own, scaled):
                return False
            moved = np.dot(np.dot(scaled, work), scaled)
            moved = 0.5 * (moved + moved.T)
            change[j] = moved
            slope += np.sum(work * moved)
            wall_moved = np.dot(wall, moved)
            squares = np.sum(wall_moved * wall_moved.T)
            wall_bend += squares
            walled = max(walled, np.sqrt(squares))
        product = np.empty((d, d), dtype=np.float32)
        for j in range(p):
            product[j * s : (j + 1) * s] = np.dot(change[j].astype(np.float32), rough[j * s : (j + 1) * s])
        bend = _square_trace(product)
        size = slope / (bend + WALL * wall_bend + 1e-300)
        size = size / (1.0 + size * max(1.1 * _radius(product), walled))
        trial = np.empty((d, d))
        for _ in range(60):
            for a in range(d):
                for b in range(d):
                    trial[a, b] = A[a, b]
            for j in range(p):
                for a in range(s):
                    for b in range(s):
                        trial[j * s + a, j * s + b] -= E[k, j, a, b] + size * change[j, a, b]
                    trial[j * s + a, j * s + a] -= margin
            if factor(trial):
                break
            size *= 0.5
        else:
            return False
        E[k] += size * change
    return True


@njit(cache=True, nogil=True)
def step_box(E, Theta, multipliers, pull, whitener, reach, bound):
    """One Gauss-Seidel pass over the multipliers (K, p, s) of the box, in place, Theta with them.

    dh/dt_ja = y_j (sum_o u_oa^2 - reach_k M^2), u_o = U_o in the layer's own features. With C fixed a change of t_ja by q
    scales u_a by 1 / (1 + q r), r = T_a' (E + Theta)^-1 T_a: the multiplier that brings the sum to reach_k M^2, or 0.
    """
    s = E.shape[2]
    whole, inverse = np.empty((s, s)), np.empty((s, s))
    for k in range(E.shape[0]):
        limit = reach[k] * bound * bound
        for j in range(E.shape[1]):
            squares = pull[k, j].copy()
            touched = False
            for a in range(s):
                touched = touched or multipliers[k, j, a] > 0.0
                row = whitener[j, :, a].copy()
                touched = touched or np.dot(row, np.dot(squares, row)) > limit
            if not touched:
                continue
            for a in range(s):
                row = whitener[j, :, a].copy()
                square = max(np.dot(row, np.dot(squares, row)), 0.0)  # rounding may leave less than nothing
                if multipliers[k, j, a] == 0.0 and square <= limit:
                    continue
                for b in range(s):
                    for c in range(s):
                        whole[b, c] = E[k, j, b, c] + Theta[k, j, b, c]
                if not invert_small(whole, inverse):
                    return
                pressed = np.dot(inverse, row)
                give = np.dot(row, pressed)
                change = (np.sqrt(square / limit) - 1.0) / give
                # down to zero at most; E + Theta stays positive definite in rounded numbers too
                change = max(change, -multipliers[k, j, a], -(1.0 - 1e-9) / give)
                multipliers[k, j, a] += change
                shrink = change / (1.0 + change * give)
                update = np.eye(s) - shrink * np.outer(pressed, row)
                squares = np.dot(np.dot(update, squares), update.T)
                for b in range(s):
                    for c in range(s):
                        Theta[k, j, b, c] += change * row[b] * row[c]


@lru_cache(maxsize=1)
def compile_kernels() -> None:
    """Compile, or load from numba's cache, everything above: once a process, seconds where the cache is empty."""
    A, Bt, E = np.eye(4), np.ones((1, 4)), np.full((1, 2, 2, 2), 0.1) + 0.2 * np.eye(2)
    y, box, starts = np.full(2, 0.5), np.zeros((1, 2, 2)), np.array([0, 1])
    _, _, gradient, hessian, _, pull = assess(A, Bt, starts, E, np.zeros_like(E), y, np.ones(2))
    lowest(gradient, 2)
    step_indicators(y, gradient, hessian, 2)
    step_curvature(A, E.copy(), pull, y, 0.1, 1e-6, 1e-12)
    step_box(E, np.zeros_like(E), box, pull, np.stack([np.eye(2)] * 2), np.ones(1), 1.0)
