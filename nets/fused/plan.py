"""What stays the same from step to step, laid out once for the compiled loops: who is shrunk by what, and where it lies."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch

from nets.fused.parameters import by_regulariser
from nets.fused.programs import BATCH, prox_address
from nets.fused.segments import Segments
from nets.groups import ChannelGroups


@final
@dataclass(frozen=True, eq=False)
class Part:
    """The units of one derived regulariser.

    pieces   (pieces, 3): a run of the table, and its units from .. to
    numbers  in all its units; fixed: what the sweep is told of it, tolerance and after left out
    """

    pieces: np.ndarray
    numbers: int
    sizes: np.ndarray
    fixed: tuple[int, ...]
    held: tuple[np.ndarray, ...]

    def share(self, count: int) -> list[np.ndarray]:
        """The pieces cut into about `count` lists with about as many numbers each."""
        target, room, shares = max(1, self.numbers // count), 0, []
        for (run, begin, end), size in zip(self.pieces.tolist(), self.sizes.tolist(), strict=True):
            while begin < end:
                if room <= 0:
                    shares.append([])
                    room = target
                units = min(end - begin, max(1, room // max(1, size)))
                shares[-1].append((run, begin, begin + units))
                begin, room = begin + units, room - units * size
        return [np.array(share, dtype=np.int64) for share in shares]


@final
@dataclass(frozen=True, eq=False)
class Plan:
    """One network's table with its regularisers and dtype.

    parts      one for each derived regulariser; pieces that belong to no group go with the first
    starts     by layer, its first unit
    squares    (BATCH,) float64, and scratch (5, largest batch) of the weights' dtype, for the sweep to write on
    addresses  (4, tensors); no_rules (tensors, 1): of no update
    """

    groups: ChannelGroups
    bound: tuple[Any, ...]
    dtype: torch.dtype
    real: str
    parts: tuple[Part, ...]
    starts: tuple[int, ...]
    squares: np.ndarray
    scratch: np.ndarray
    addresses: np.ndarray
    no_rules: np.ndarray

    def fits(self, groups: ChannelGroups, regularisers: Mapping[str, Any]) -> bool:
        """Is it still the plan of these?"""
        if self.groups is not groups:
            return False
        return all([regularisers[layer.name] is one for layer, one in zip(groups.layers, self.bound, strict=True)])


def make_plan(table: Segments, groups: ChannelGroups, regularisers: Mapping[str, Any], dtype: torch.dtype) -> Plan:
    """Lay out the runs by regulariser, and the regularisers' parameters by layer."""
    real = "float32" if dtype == torch.float32 else "float64"
    number = np.dtype(real)
    numels = np.array([p.numel() for p in table.tensors], dtype=np.int64)
    largest = max(BATCH, int(table.sizes.max(initial=1)))
    return Plan(
        groups=groups,
        bound=tuple(regularisers[layer.name] for layer in groups.layers),
        dtype=dtype,
        real=real,
        parts=tuple(_parts(table, groups, regularisers, real, numels)),
        starts=tuple(table.start_of[layer.name] for layer in groups.layers),
        squares=np.empty(BATCH),
        scratch=np.empty((5, largest), dtype=number),
        addresses=np.zeros((4, len(table.tensors)), dtype=np.int64),
        no_rules=np.zeros((len(table.tensors), 1), dtype=number),
    )


def _parts(
    table: Segments, groups: ChannelGroups, regularisers: Mapping[str, Any], real: str, numels: np.ndarray
) -> list[Part]:
    found: list[Part] = []
    for regularizer, numbers, theta in by_regulariser(groups, regularisers):
        mine = np.flatnonzero(np.isin(table.runs[:, 5], numbers))
        runs = table.runs[mine]
        pieces = np.ascontiguousarray(np.stack([mine, np.zeros_like(mine), runs[:, 1]], axis=1), dtype=np.int64)
        held = (table.runs, table.segments, table.positions, numels, theta)
        at = [array.__array_interface__["data"][0] for array in held]
        fixed = (
            *(at[0], len(table.runs), at[1], len(table.segments), at[2], len(table.positions), at[3], len(numels)),
            *(*theta.shape, len(table.sizes), prox_address(regularizer, real), at[4]),
        )
        sizes = runs[:, 2]
        found.append(Part(pieces, int(sizes @ runs[:, 1]), sizes, fixed, held))
    return found
