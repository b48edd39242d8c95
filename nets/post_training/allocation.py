"""How many channels each layer keeps: the least total error under one budget, exactly.

    min  sum_l e_l(k_l)   with  sum_l w_l k_l <= budget,  1 <= k_l <= p_l

Dynamic programming over the layers; only undominated pairs (weight, error) are kept, so nothing is rounded. A price common to
all layers gives the same answers where the curves are convex; where they are not, it misses points that this finds.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from perspective.errors import InputError

Array = NDArray[np.float64]


def allocate(curves: Sequence[Array], weights: Sequence[int], budget: int) -> tuple[int, ...]:
    """Channels to keep in each layer. curves: for each layer (p_l + 1,) errors by count; weights: cost of one channel of it.

    Ties go to the cheaper total, then to fewer channels in the earlier layers. InputError where one channel each is too much.
    """
    if any(not np.all(np.isfinite(curve[1:])) for curve in curves):
        raise InputError("the error of a layer is NaN or infinite; check the network and the calibration images")
    front: list[tuple[int, float, tuple[int, ...]]] = [(0, 0.0, ())]
    for curve, weight in zip(curves, weights, strict=True):
        grown = sorted(
            (used + weight * k, error + float(curve[k]), (*counts, k))
            for used, error, counts in front
            for k in range(1, len(curve))
            if used + weight * k <= budget
        )
        front, best = [], np.inf
        for point in grown:
            if point[1] < best:
                front.append(point)
                best = point[1]
    if not front:
        least = sum(weights)
        raise InputError(f"one channel in every layer costs {least}, more than the budget {budget}; ask for more")
    return front[-1][2]


def share_evenly(channels: Sequence[int], weights: Sequence[int], budget: int) -> tuple[int, ...]:
    """The same share of every layer, rounded down, as large as fits. InputError where one channel each is too much."""
    if sum(weights) > budget:
        raise InputError(
            f"one channel in every layer costs {sum(weights)}, more than the budget {budget}; ask for more"
        )
    shares = sorted({k / p for p in channels for k in range(1, p + 1)}, reverse=True)
    counts = next(
        (
            c
            for s in shares
            if (c := [max(1, int(s * p + 1e-9)) for p in channels])
            and sum(w * k for w, k in zip(weights, c, strict=True)) <= budget
        ),
        [1] * len(channels),
    )
    return tuple(counts)


def fill_up(counts: Sequence[int], channels: Sequence[int], weights: Sequence[int], budget: int) -> tuple[int, ...]:
    """One more channel at a time, for the layer that keeps the smallest share of its own, until none fits the budget."""
    filled = list(counts)
    used = sum(w * k for w, k in zip(weights, filled, strict=True))
    while True:
        room = [i for i, w in enumerate(weights) if filled[i] < channels[i] and used + w <= budget]
        if not room:
            return tuple(filled)
        index = min(room, key=lambda i: (filled[i] / channels[i], i))
        filled[index] += 1
        used += weights[index]


def fill_curve(measured: Mapping[int, float], channels: int) -> Array:
    """(channels + 1,) errors from some measured counts: linear between them, and never rising with the count."""
    known = sorted(measured)
    curve = np.interp(np.arange(channels + 1), known, [measured[k] for k in known])
    return np.minimum.accumulate(np.maximum(curve, 0.0))
