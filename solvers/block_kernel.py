"""Compiled arithmetic of block coordinate descent on the relaxation with a cost a s^2 + b |s|: see `descend_blocks.py`.

`declared` is (strength, a, b, price, M), M = inf without a box. Features stand in the order of their groups, group j at
the places begins[j] .. begins[j + 1] - 1 (`gram.py`). No fastmath; the values here steer, the certificate is another's.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit

from solvers.extrapolate import MEMORY, extrapolate

FREE, OFF, ON = 0, -1, 1  # as in solvers/dual.py
INNER = 3  # prox steps on a block for one pass over its rows of G: all but its exact minimum
ROOT_STEPS = 60


@njit(cache=True, nogil=True, error_model="numpy")
def conjugate(z: float, a: float, b: float, M: float) -> float:
    """phi*(z) of phi(s) = a s^2 + b |s| on |s| <= M, for z >= 0."""
    z = max(z - b, 0.0)
    return 0.25 * z * z / a if z <= 2.0 * a * M else M * z - a * M * M


@njit(cache=True, nogil=True, error_model="numpy")
def shrink_block(v: Any, out: Any, n: int, step: float, declared: Any, state: int, y: float) -> float:
    """out[:n] = prox of step * (group term) at v[:n]; returns the indicator. `y` is a guess of it.

    With t = 2 step a and q = (|v| - step b)+ the weights are y min(q / u, M), u = y + t, where u solves

        price step = sum_{q <= M u} (t / 2) (q / u)^2 + sum_{q > M u} [ (t / 2) M^2 + M (q - M u) ]

    (design: the prox of every perspective); convex and falling in u, so Newton climbs to the root from below.
    """
    _, a, b, price, M = declared
    t, total, squares = 2.0 * step * a, 0.0, 0.0
    for k in range(n):
        size = abs(v[k])
        total += conjugate(size / step, a, b, M)
        out[k] = max(size - step * b, 0.0)
        squares += out[k] * out[k]
    if state == OFF or (state == FREE and total <= price):
        for k in range(n):
            out[k] = 0.0
        return 0.0
    if state == ON:
        y = 1.0
    else:
        u = t + y if y > 0.0 else max(t, np.sqrt(0.5 * t * squares / (price * step)))
        u = min(u, 1.0 + t)
        for _ in range(ROOT_STEPS):
            value, slope = -price * step, 0.0
            for k in range(n):
                if out[k] <= M * u:
                    x = out[k] / u
                    value += 0.5 * t * x * x
                    slope -= t * x * x / u
                else:
                    value += 0.5 * t * M * M + M * (out[k] - M * u)
                    slope -= M * M
            if slope == 0.0:
                break
            following = min(max(u - value / slope, t), 1.0 + t)
            done = abs(following - u) <= 1e-15 * u
            u = following
            if done:
                break
        y = max(u - t, 0.0)
    for k in range(n):
        out[k] = np.copysign(y * min(out[k] / (y + t), M), v[k])
    return y


@njit(cache=True, nogil=True, error_model="numpy")
def look(W: Any, H: Any, B: Any, begins: Any, squares: float, declared: Any, states: Any) -> tuple[float, float]:
    """Primal value and duality gap at W (d, o) with H = G W - B, the dual point being the loss's own gradient.

    The gap is strength * sum_j [ r(w_j) + r*(z_j) - w_j . z_j ], z = -2 H / strength: Fenchel and Young, group by group.
    """
    strength, a, b, price, M = declared
    primal, gap = squares, 0.0
    for i in range(W.shape[0]):
        for e in range(W.shape[1]):
            primal += W[i, e] * (H[i, e] - B[i, e])
    for j in range(begins.size - 1):
        total, peak, ones, product, dual = 0.0, 0.0, 0.0, 0.0, -price
        for i in range(begins[j], begins[j + 1]):
            for e in range(W.shape[1]):
                size, z = abs(W[i, e]), -2.0 * H[i, e] / strength
                total += size * size
                peak = max(peak, size)
                ones += size
                product += z * W[i, e]
                dual += conjugate(abs(z), a, b, M)
        if states[j] == OFF:
            continue
        y = 1.0 if states[j] == ON else min(1.0, max(peak / M, np.sqrt(a / price * total)))
        value = b * ones + price * y
        if y > 0.0:
            value += a * total / y
        primal += strength * value
        gap += strength * (value + (dual if states[j] == ON else max(0.0, dual)) - product)
    return primal, gap


@njit(cache=True, nogil=True, error_model="numpy")
def sweep(G: Any, W: Any, H: Any, y: Any, begins: Any, curvatures: Any, declared: Any, states: Any, room: Any) -> None:
    """One cycle over the groups, in place: W, H = G W - B, y. `room`: four blocks of the largest group's (n, o)."""
    d, o = W.shape
    own, half, ahead, shrunk = room[0], room[1], room[2].reshape(-1), room[3].reshape(-1)
    for j in range(begins.size - 1):
        first, n = begins[j], begins[j + 1] - begins[j]
        for k in range(n):
            for e in range(o):
                own[k, e], half[k, e] = W[first + k, e], H[first + k, e]
        step, moved = 0.5 * declared[0] / curvatures[j], False
        for inner in range(INNER):
            for k in range(n):
                for e in range(o):
                    ahead[k * o + e] = own[k, e] - half[k, e] / curvatures[j]
            y[j] = shrink_block(ahead, shrunk, n * o, step, declared, states[j], y[j])
            moved = False
            for k in range(n):
                for e in range(o):
                    change = shrunk[k * o + e] - own[k, e]
                    own[k, e] = shrunk[k * o + e]
                    moved = moved or change != 0.0
                    if change != 0.0 and n > 1 and inner < INNER - 1:
                        for i in range(n):
                            half[i, e] += G[first + k, first + i] * change
            if not moved or n == 1:
                break
        if o == 1:
            flat = H.reshape(-1)
            for k in range(n):
                change, row = own[k, 0] - W[first + k, 0], G[first + k]
                if change != 0.0:
                    W[first + k, 0] = own[k, 0]
                    for i in range(d):
                        flat[i] += change * row[i]
            continue
        moved = False
        for k in range(n):
            for e in range(o):
                half[k, e] = own[k, e] - W[first + k, e]
                moved = moved or half[k, e] != 0.0
                W[first + k, e] = own[k, e]
        if moved:
            pushed = np.dot(G[first : first + n].T, half[:n])
            for i in range(d):
                for e in range(o):
                    H[i, e] += pushed[i, e]


@njit(cache=True, nogil=True, error_model="numpy")
def half_gradient(G: Any, W: Any, B: Any, H: Any) -> None:
    """H = G W - B."""
    np.dot(G, W, H)
    for i in range(B.shape[0]):
        for e in range(B.shape[1]):
            H[i, e] -= B[i, e]


@njit(cache=True, nogil=True, error_model="numpy")
def copy_numbers(source: Any, target: Any) -> None:
    """target = source, both (n,)."""
    for i in range(source.size):
        target[i] = source[i]


@njit(cache=True, nogil=True, error_model="numpy")
def sweep_rounds(
    G: Any, B: Any, begins: Any, curvatures: Any, squares: float, declared: Any, states: Any, W: Any, y: Any,
    tolerance: float, rounds: int,
) -> tuple[int, float, float]:  # fmt: skip
    """Rounds of MEMORY sweeps and one extrapolation, taken where the value falls; W and y in place.

    Stops at relative gap `tolerance` or after `rounds`; returns the sweeps made, the primal value and the gap.
    """
    d, o = W.shape
    largest = 0
    for j in range(begins.size - 1):
        largest = max(largest, begins[j + 1] - begins[j])
    room, past = np.empty((4, largest, o)), np.empty((MEMORY + 1, d * o))
    H, mixed, mixed_half = np.empty((d, o)), np.empty((d, o)), np.empty((d, o))
    half_gradient(G, W, B, H)
    primal, gap = look(W, H, B, begins, squares, declared, states)
    for done in range(rounds):
        if gap <= tolerance * max(1e-12, abs(primal)):
            return done * MEMORY, primal, gap
        copy_numbers(W.reshape(-1), past[0])
        for k in range(MEMORY):
            sweep(G, W, H, y, begins, curvatures, declared, states, room)
            copy_numbers(W.reshape(-1), past[k + 1])
        half_gradient(G, W, B, H)  # updates add up their rounding
        primal, gap = look(W, H, B, begins, squares, declared, states)
        if not extrapolate(past, declared[4], mixed.reshape(-1)):
            continue
        half_gradient(G, mixed, B, mixed_half)
        mixed_primal, mixed_gap = look(mixed, mixed_half, B, begins, squares, declared, states)
        if mixed_primal < primal:
            copy_numbers(mixed.reshape(-1), W.reshape(-1))
            copy_numbers(mixed_half.reshape(-1), H.reshape(-1))
            primal, gap = mixed_primal, mixed_gap
    return rounds * MEMORY, primal, gap


@lru_cache(maxsize=1)
def compile_sweeps() -> None:
    """Compile, or load from numba's cache, everything above: once a process, seconds where the cache is empty."""
    G, begins, ones = np.eye(2), np.arange(3, dtype=np.intp), np.ones(2)
    declared, states, start = (1.0, 1.0, 0.0, 1.0, 1.0), np.zeros(2, dtype=np.int8), np.zeros((2, 1))
    sweep_rounds(G, np.ones((2, 1)), begins, ones, 2.0, declared, states, start, np.ones(2), 1.0, 1)
