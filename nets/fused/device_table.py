"""The table of segments on a device, and the tiles into which its groups are cut: built once for a network."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from nets.fused.segments import Segments
from nets.fused.triton_kernel import LARGE
from nets.fused.uploaded import Uploaded
from perspective.errors import InputError

SMALLEST_TILE = 1024
LARGEST_TILE = 2048  # numbers of a group that registers hold (8 a thread); a larger one is taken piece by piece
LARGEST_WHOLE = 8192  # the same of a cost that needs the whole group at once


@final
@dataclass(frozen=True)
class Tiles:
    """The programs of one launch. classes: bit k where a tile is 2^k wide, bit 31 for large groups, in pieces of `tile`.

    A tile has two numbers for each thread, or one group: more groups a thread would fill its registers with their scalars.

    program_class, starts, stops  (programs,) int32: a program takes the units order[start:stop]
    order                         (units,) int32
    """

    classes: int
    tile: int
    warps: int
    program_class: Tensor
    starts: Tensor
    stops: Tensor
    order: Tensor


@final
class DeviceTable:
    """Segments on a device (int32), and the tables that change: addresses, rates, rules, weights of the steps.

    addresses  (6, tensors) int64: weights, gradients, first and second state, step counts, copies in low precision (0: none)
    """

    def __init__(self, table: Segments, device: torch.device) -> None:
        if any(p.numel() >= 2**31 for p in table.tensors):
            raise InputError("a tensor has 2^31 numbers or more; fused counts them with 32 bits, so choose 'flat'")
        self.device, self.table = device, table
        self.sizes, self.firsts = self._send(table.sizes), self._send(table.first)
        self.layers = self._send(np.maximum(table.layer_of, 0))
        tensor, offset, length, gathered = table.each.T
        self.tensors, self.offsets = self._send(tensor), self._send(offset)
        self.lengths, self.gathered = self._send(length), self._send(gathered)
        self.positions = self._send(table.positions)
        self.has_gathered = bool(gathered.any())
        self.addresses, self.rates, self.rules = Uploaded(device), Uploaded(device), Uploaded(device)
        self.counts, self.weights, self.rate_of = Uploaded(device), Uploaded(device), Uploaded(device)
        self.planned: list[Any] = []  # the regularisers of `plan`, layer by layer
        self.plan: list[tuple[Any, np.ndarray, np.ndarray]] = []
        self._tiles: dict[bytes, Tiles] = {}
        self._thetas: dict[bytes, Tensor] = {}

    def tiles(self, units: np.ndarray, whole: bool = False) -> Tiles:
        """The tiles of these units, cut once; whole: the cost needs a group at once."""
        key = units.tobytes() + bytes([whole])
        if key not in self._tiles:
            self._tiles[key] = self._cut(units, LARGEST_WHOLE if whole else LARGEST_TILE)
        return self._tiles[key]

    def theta(self, numbers: np.ndarray, dtype: torch.dtype) -> Tensor:
        """(layers, parameters) on the device, sent once."""
        key = numbers.tobytes() + str(dtype).encode()
        if key not in self._thetas:
            self._thetas[key] = torch.from_numpy(numbers).to(self.device, dtype)
        return self._thetas[key]

    def _cut(self, units: np.ndarray, largest: int) -> Tiles:
        sizes = self.table.sizes[units]
        units, sizes = units[sizes > 0], sizes[sizes > 0]
        widths = np.ceil(np.log2(np.maximum(sizes, 1))).astype(np.int64)
        held = sizes[sizes <= largest]
        tile = max(SMALLEST_TILE, 1 << int(np.ceil(np.log2(held.max())))) if len(held) else largest
        warps = min(16, tile // 256)
        widths[sizes > tile] = LARGE
        order = np.argsort(-widths, kind="stable")  # the largest groups start first
        units, widths = units[order], widths[order]
        rows: list[np.ndarray] = []
        for width in np.unique(widths)[::-1]:
            at = np.flatnonzero(widths == width)
            each = 1 if width == LARGE else max(1, (64 * warps) >> int(width))
            starts = np.arange(at[0], at[-1] + 1, each)
            stops = np.minimum(starts + each, at[-1] + 1)
            rows.append(np.stack([np.full(len(starts), width), starts, stops]))
        columns = np.concatenate(rows, axis=1) if rows else np.zeros((3, 0), np.int64)
        classes = sum(1 << int(width) for width in np.unique(widths))
        return Tiles(classes, tile, warps, *map(self._send, columns), self._send(units))

    def _send(self, values: np.ndarray) -> Tensor:
        whole = torch.from_numpy(np.ascontiguousarray(values, dtype=np.int32))
        return whole.to(self.device) if len(whole) else torch.zeros(1, dtype=torch.int32, device=self.device)
