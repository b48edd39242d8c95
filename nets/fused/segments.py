"""Where the numbers of every group lie in memory: the table that a fused kernel walks, built once for a network.

    unit (a group, or a piece of what no group holds) -> segments -> (tensor, offset, length), or gathered positions
    run (units that are alike, one after the other) -> the segments of its first unit, and how far the next unit's lie

Parameters stay where they are: the kernel reads through their addresses, asked for anew at every step. So checkpoints,
copies, DDP and code that replaces `.data` need no care; only another layout (channels_last, a reshape) asks for a new table.
The order of a group's numbers means nothing to a prox, so that rows of a channels_last filter are one piece as well.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from nets.fused.runs import find_runs
from nets.groups import ChannelGroups, Layer
from perspective.errors import InputError

PIECE = 4096  # numbers of a unit that belongs to no group
SHORT_RUN = 8  # runs shorter than this are gathered through positions

Layout = tuple[torch.Size, tuple[int, ...], torch.dtype, torch.device]


@final
@dataclass(frozen=True, eq=False)
class Segments:
    """The table. Units first: the groups, layer by layer; then the pieces that belong to no group.

    tensors    the parameters, by number; layouts their shapes, strides, dtypes and devices when the table was built
    runs       (runs, 7) first unit, number of units, numbers in a unit, first and last + 1 of its segments, layer (-1: no
               group), first unit of the layer
    segments   (segments, 5) tensor, offset of the run's first unit, stride to the next unit, length, gathered (0, 1); an
               offset is into the tensor's memory, or into `positions` where gathered
    first, each  (units + 1,) and (., 4): the segments unit by unit (tensor, offset, length, gathered), of which unit u has
               first[u] to first[u + 1]; what a GPU's programs read
    positions  places in memory of gathered numbers
    sizes      (units,) numbers in each unit
    layer_of   (units,) the layer's number; -1: no group
    start_of   by layer name, the first unit
    devices    by device, the table there (device_table.py), made when it is asked for
    """

    tensors: tuple[nn.Parameter, ...]
    layouts: list[Layout]
    runs: np.ndarray
    segments: np.ndarray
    first: np.ndarray
    each: np.ndarray
    positions: np.ndarray
    sizes: np.ndarray
    layer_of: np.ndarray
    start_of: dict[str, int]
    devices: dict[torch.device, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def groups(self) -> int:
        """The number of groups; they are the first units."""
        return int((self.layer_of >= 0).sum())

    @cached_property
    def number_of(self) -> dict[int, int]:
        """By id of a parameter, its number."""
        return {id(p): number for number, p in enumerate(self.tensors)}

    def fits(self) -> bool:
        """Have all tensors still the layout of the table?"""
        return [(p.shape, p.stride(), p.dtype, p.device) for p in self.tensors] == self.layouts


def build_segments(groups: ChannelGroups, others: Iterable[nn.Parameter] = ()) -> Segments:
    """The table of all groups, and of every number of `others` that no group holds.

    InputError for a tensor whose numbers do not lie densely in memory.
    """
    table = _Builder()
    start_of, layer_of = {}, []
    for number, layer in enumerate(groups.layers):
        start_of[layer.name] = len(layer_of)
        layer_of += [number] * layer.channels
        table.add_layer(layer)
    for parameter in others:
        layer_of += [-1] * table.add_rest(parameter)
    return table.finish(start_of, np.array(layer_of, dtype=np.int64))


def places(parameter: Tensor) -> Tensor:
    """The place in memory of each number, in the parameter's shape; InputError where memory is not dense."""
    strides = sorted(
        (stride, size) for stride, size in zip(parameter.stride(), parameter.shape, strict=True) if size > 1
    )
    dense = 1
    for stride, size in strides:
        if stride != dense:
            raise InputError(
                f"a parameter of shape {tuple(parameter.shape)} has strides {parameter.stride()} and gaps in memory; "
                "fused works on dense parameters: give it parameter.data = parameter.data.contiguous()"
            )
        dense *= size
    return torch.arange(parameter.numel()).as_strided(parameter.shape, parameter.stride())


@final
class _Builder:
    """Collects segments; every number of a tensor is taken once."""

    def __init__(self) -> None:
        self.tensors: dict[int, tuple[int, nn.Parameter]] = {}
        self.free: dict[int, np.ndarray] = {}
        self.segments: list[np.ndarray] = []  # rows: unit, tensor, offset, length, gathered
        self.positions: list[np.ndarray] = []
        self.filled = 0
        self.units = 0

    def number(self, parameter: nn.Parameter) -> int:
        """The tensor's number; a new one where it was not seen yet."""
        if id(parameter) not in self.tensors:
            self.tensors[id(parameter)] = (len(self.tensors), parameter)
            self.free[id(parameter)] = np.ones(parameter.numel(), dtype=bool)
        return self.tensors[id(parameter)][0]

    def add_layer(self, layer: Layer) -> None:
        """One unit for each channel."""
        for span in layer.spans:
            number = self.number(span.parameter)
            stand_in: Any = places(span.parameter)
            index = None if span.index is None else span.index.cpu()
            rows = replace(span, parameter=stand_in, index=index).read(layer.channels).numpy()
            rows = np.sort(rows, axis=1)
            self.free[id(span.parameter)][rows.reshape(-1)] = False
            self._add(rows, number)
        self.units += layer.channels

    def add_rest(self, parameter: nn.Parameter) -> int:
        """Units for what no group holds of the parameter; their number."""
        places(parameter)
        number = self.number(parameter)
        rest = np.flatnonzero(self.free[id(parameter)])
        self.free[id(parameter)][:] = False
        before = self.units
        for piece in np.array_split(rest, -(-len(rest) // PIECE)) if len(rest) else []:
            self._add(piece[None], number)
            self.units += 1
        return self.units - before

    def _add(self, rows: np.ndarray, number: int) -> None:
        """Segments of (units, numbers) sorted positions; rows of few numbers each in long runs keep the runs."""
        count, n = rows.shape
        units = self.units + np.arange(count)
        breaks = np.diff(rows, axis=1, prepend=-2) != 1
        if breaks.sum() * SHORT_RUN <= rows.size or breaks.sum() == count:
            at = np.flatnonzero(breaks.reshape(-1))
            length = np.diff(at, append=rows.size)
            unit, offset, gathered = units[at // n], rows.reshape(-1)[at], np.zeros_like(at)
        else:
            unit, offset, gathered = units, self.filled + n * np.arange(count), np.ones(count, dtype=np.int64)
            length = np.full(count, n)
            self.positions.append(rows.reshape(-1))
            self.filled += rows.size
        self.segments.append(np.stack([unit, np.full(len(unit), number), offset, length, gathered], axis=1))

    def finish(self, start_of: dict[str, int], layer_of: np.ndarray) -> Segments:
        """Sort by unit and freeze."""
        rows = np.concatenate(self.segments) if self.segments else np.zeros((0, 5), dtype=np.int64)
        rows = np.ascontiguousarray(rows[np.argsort(rows[:, 0], kind="stable")], dtype=np.int64)
        first = np.searchsorted(rows[:, 0], np.arange(self.units + 1))
        sizes = np.bincount(rows[:, 0], weights=rows[:, 3], minlength=self.units).astype(np.int64)
        tensors = tuple(parameter for _, parameter in self.tensors.values())
        runs, segments = find_runs(rows[:, 1:], first, sizes, layer_of)
        return Segments(
            tensors=tensors,
            layouts=[(p.shape, p.stride(), p.dtype, p.device) for p in tensors],
            runs=runs,
            segments=segments,
            first=first,
            each=rows[:, 1:],
            positions=np.concatenate([*self.positions, np.zeros(0, dtype=np.int64)]),
            sizes=sizes,
            layer_of=layer_of,
            start_of=start_of,
        )
