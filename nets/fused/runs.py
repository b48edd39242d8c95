"""Units that are alike, as one run: the table of a convolution has one line, however many filters it has."""

import numpy as np


def find_runs(
    rows: np.ndarray, first: np.ndarray, sizes: np.ndarray, layer_of: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Runs and their segments, of (segments, 4) tensor, offset, length, gathered, and each unit's first row.

    A layer whose units have the same segments, each as far from the last unit's, is one run; else each unit is one.
    """
    runs: list[tuple[int, ...]] = []
    segments: list[np.ndarray] = []
    filled = 0
    starts = np.flatnonzero(np.diff(layer_of, prepend=-2) != 0) if len(layer_of) else np.zeros(0, dtype=np.int64)
    for leader, after in zip(starts, np.append(starts[1:], len(layer_of)), strict=True):
        layer, units = int(layer_of[leader]), int(after - leader)
        count = np.diff(first[leader : after + 1])
        alike = layer >= 0 and bool((count == count[0]).all())
        block = rows[first[leader] : first[after]]
        stride = np.zeros(len(block), dtype=np.int64)
        if alike and units > 1:
            table = block.reshape(units, count[0], 4)
            steps = np.diff(table[:, :, 1], axis=0)
            alike = bool((table[:, :, [0, 2, 3]] == table[:1, :, [0, 2, 3]]).all() and (steps == steps[:1]).all())
            if alike:
                block, stride = table[0], steps[0]
        found = np.stack([block[:, 0], block[:, 1], stride, block[:, 2], block[:, 3]], axis=1)
        segments.append(found)
        if alike:
            runs.append((leader, units, sizes[leader], filled, filled + len(found), layer, leader))
        else:
            ends = filled + first[leader : after + 1] - first[leader]
            runs += [(leader + k, 1, sizes[leader + k], ends[k], ends[k + 1], layer, leader) for k in range(units)]
        filled += len(found)
    table = np.array(runs, dtype=np.int64).reshape(-1, 7)
    return table, np.concatenate([*segments, np.zeros((0, 5), dtype=np.int64)])
