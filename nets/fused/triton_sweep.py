"""The fused prox on a GPU: one launch for all groups that share a derived regulariser, and nothing waits for the device.

The step of a group is rates[its layer] * strength * weights[its layer]; rates and strength may be tensors on the device, so
that a captured CUDA graph replays with whatever stands in them. Numbers are float32 (float64 for float64 weights);
infinities and not-a-number propagate, and every search ends after 120 turns at most. A device's step that is negative
or no number makes its group not-a-number; one that the host knows raises InputError.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from nets.fused.device_table import LARGEST_WHOLE, DeviceTable
from nets.fused.parameters import by_regulariser
from nets.fused.segments import Segments
from nets.fused.triton_kernel import LARGE, compiled
from nets.groups import ChannelGroups
from perspective.errors import InputError

WEIGHT, GRADIENT, FIRST, SECOND, COUNT, COPY = range(6)  # rows of the table of addresses
TAKEN = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@final
@dataclass(frozen=True)
class Pace:
    """Learning rates and strength: numbers, or tensors on the device. layer, tensor: which rate each of them has."""

    rates: Sequence[float | Tensor] = (1.0,)
    strength: float | Tensor = 1.0
    layer: Mapping[str, int] = field(default_factory=dict)
    tensor: Mapping[int, int] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class DeviceUpdate:
    """What is done to the weights on the way (kind 1: SGD, 2: AdamW, 0: nothing).

    addresses  (6, tensors) int64; rules (tensors, 8), see triton_update.py
    weights    what row WEIGHT points at: the parameters, or their float32 masters; copies: what row COPY points at, by number
    """

    kind: int
    addresses: np.ndarray
    rules: np.ndarray
    weights: tuple[Tensor, ...]
    copies: Mapping[int, Tensor] = field(default_factory=dict)


def no_update(table: Segments) -> DeviceUpdate:
    """The prox alone, on the parameters themselves."""
    addresses = np.zeros((6, len(table.tensors)), dtype=np.int64)
    addresses[WEIGHT] = [p.data_ptr() for p in table.tensors]
    return DeviceUpdate(0, addresses, np.zeros((1, 8)), tuple(table.tensors))


def device_table(table: Segments) -> DeviceTable:
    """The table on the parameters' device; InputError where they lie on several."""
    devices = {p.device for p in table.tensors}
    if len(devices) != 1:
        names = ", ".join(sorted(map(str, devices)))
        raise InputError(
            f"fused wants the whole network on one device, not on {names}; move it there, or choose 'flat'"
        )
    device = devices.pop()
    if device not in table.devices:
        table.devices[device] = DeviceTable(table, device)
    return table.devices[device]


def run_on_device(
    table: Segments,
    groups: ChannelGroups,
    weights: Mapping[str, float | Tensor],
    regularisers: Mapping[str, Any],
    pace: Pace | None = None,
    update: DeviceUpdate | None = None,
    report: bool = False,
    starts: Mapping[str, Any] | None = None,
) -> Tensor | None:
    """One launch for each derived regulariser: the update, then the prox; weights: by layer, one number or (channels,).

    report  return (units, 4) on the device: y, r, F(y), is the whole group zero?; not-a-number where a step is 0
    starts  by layer, (channels,): where the searches begin
    """
    pace, update = pace or Pace(), update or no_update(table)
    there = device_table(table)
    dtype, half = _dtypes(update)
    real = torch.float64 if dtype == torch.float64 else torch.float32
    found = torch.full((len(table.sizes), 4), torch.nan, dtype=real, device=there.device) if report else there.sizes
    begins = there.sizes if starts is None else _by_unit(table, groups, starts, there.device)
    addresses = there.addresses.put(update.addresses)
    rules = there.rules.put(update.rules.astype(np.float64 if real == torch.float64 else np.float32))
    rates, rate_of, steps = _rates(there, pace), _rate_of(there, groups, pace), _steps(there, groups, weights, pace)
    for regularizer, theta, units in _plan(there, groups, regularisers):
        module = compiled(regularizer)
        whole = module["BALL"] or module["JOINED"]
        tiles = there.tiles(units, whole)
        if not len(tiles.starts) or not tiles.classes:
            continue
        if (tiles.classes >> LARGE) & 1 and whole:
            raise InputError(
                f"fused takes groups of a radial cost up to {LARGEST_WHOLE} numbers on a GPU; choose 'flat'"
            )
        launch = partial(
            module["sweep"][(len(tiles.starts),)],
            *(tiles.program_class, tiles.starts, tiles.stops, tiles.order, there.sizes, there.firsts, there.layers),
            *(
                there.tensors,
                there.offsets,
                there.lengths,
                there.gathered,
                there.positions,
                addresses,
                len(table.tensors),
            ),
            *(there.theta(theta, real), steps, rates, rate_of, rules, begins, found),
            **_constants(tiles.classes, tiles.tile, update.kind, real, dtype, half),
            GATHERED=there.has_gathered,
            REPORT=report,
            WARM=starts is not None,
            SPREAD=64 * tiles.warps,
            num_warps=tiles.warps,
            num_stages=1,  # the loops over segments are short: fetching ahead costs registers only
            enable_fp_fusion=True,
        )
        with torch.cuda.device(there.device) if there.device.type == "cuda" else nullcontext():
            launch()
    torch.autograd.graph.increment_version(table.tensors)  # saved for a backward pass, they are not what they were
    return found if report else None


def _constants(
    classes: int, tile: int, kind: int, real: torch.dtype, dtype: torch.dtype, half: torch.dtype | None
) -> dict[str, Any]:
    import triton.language as tl

    names = {
        torch.float32: tl.float32,
        torch.float64: tl.float64,
        torch.bfloat16: tl.bfloat16,
        torch.float16: tl.float16,
    }
    low = None if half is None else names[half]
    kinds = {"REAL": names[real], "WEIGHT": names[dtype], "HALF": low, "BYTES": dtype.itemsize}
    return {"CLASSES": classes, "TILE": tile, "KIND": kind, **kinds}


def _dtypes(update: DeviceUpdate) -> tuple[torch.dtype, torch.dtype | None]:
    """Of the weights, and of their low-precision copies."""
    kinds, halves = {p.dtype for p in update.weights}, {p.dtype for p in update.copies.values()}
    if len(kinds) != 1 or not kinds <= set(TAKEN) or len(halves) > 1:
        names = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds | halves))
        raise InputError(
            f"fused takes weights all of one kind, not {names}; choose 'flat', or master=True with bfloat16"
        )
    return kinds.pop(), halves.pop() if halves else None


def _rates(there: DeviceTable, pace: Pace) -> Tensor:
    """(2 rates,) float64 on the device: the rates, and the rates times the strength."""
    if any(isinstance(x, Tensor) for x in (*pace.rates, pace.strength)):
        plain = torch.cat([_numbers(x, 1, there.device) for x in pace.rates])
        return torch.cat([plain, plain * _numbers(pace.strength, 1, there.device)])
    plain = np.array(pace.rates, dtype=np.float64)
    return there.rates.put(np.concatenate([plain, plain * pace.strength]))


def _rate_of(there: DeviceTable, groups: ChannelGroups, pace: Pace) -> Tensor:
    """(tensors + layers,) int32: which number of `_rates`."""
    tensors = [pace.tensor.get(id(p), 0) for p in there.table.tensors]
    layers = [len(pace.rates) + pace.layer.get(layer.name, 0) for layer in groups.layers]
    return there.rate_of.put(np.array(tensors + layers, dtype=np.int32))


def _steps(there: DeviceTable, groups: ChannelGroups, weights: Mapping[str, float | Tensor], pace: Pace) -> Tensor:
    """(units,) float64 on the device: the weights; refused where the host knows that a step is negative or no number."""
    if any(
        isinstance(weights[layer.name], Tensor) and weights[layer.name].device.type == "cuda" for layer in groups.layers
    ):
        return _by_unit(there.table, groups, weights, there.device)
    host = np.zeros(len(there.table.sizes))
    for layer in groups.layers:
        start = there.table.start_of[layer.name]
        host[start : start + layer.channels] = np.asarray(weights[layer.name], dtype=np.float64)
    known = [np.float64(x) for x in (*pace.rates, pace.strength) if not isinstance(x, Tensor)]
    with np.errstate(invalid="ignore"):
        right = all(x >= 0 and (host * x >= 0).all() for x in (np.float64(1), *known))
    if not right:
        raise InputError("a prox step is negative or not a number; it is the learning rate times the strength")
    return there.weights.put(host)


def _by_unit(table: Segments, groups: ChannelGroups, values: Mapping[str, Any], device: torch.device) -> Tensor:
    """(units,) float64 on the device, without a look at the numbers: 0 for pieces of no group."""
    parts = [_numbers(values[layer.name], layer.channels, device) for layer in groups.layers]
    return torch.cat([*parts, torch.zeros(len(table.sizes) - table.groups, dtype=torch.float64, device=device)])


def _numbers(value: Any, count: int, device: torch.device) -> Tensor:
    """(count,) float64 on the device; a number is filled in there, for a capture allows no copy from ordinary memory."""
    if isinstance(value, (float, int)):
        return torch.full((count,), value, dtype=torch.float64, device=device)
    return torch.as_tensor(value, dtype=torch.float64, device=device).reshape(-1).expand(count)


def _plan(
    there: DeviceTable, groups: ChannelGroups, regularisers: Mapping[str, Any]
) -> list[tuple[Any, np.ndarray, np.ndarray]]:
    """`_units_by_regulariser`, made anew where a layer has got another regulariser."""
    each = [regularisers[layer.name] for layer in groups.layers]
    if len(there.planned) != len(each) or any(a is not b for a, b in zip(there.planned, each, strict=True)):
        there.planned, there.plan = each, _units_by_regulariser(there.table, groups, regularisers)
    return there.plan


def _units_by_regulariser(
    table: Segments, groups: ChannelGroups, regularisers: Mapping[str, Any]
) -> list[tuple[Any, np.ndarray, np.ndarray]]:
    """(derived regulariser, parameters by layer, units) for each; pieces of no group go with the first."""
    return [
        (regularizer, theta, np.flatnonzero(np.isin(table.layer_of, numbers)))
        for regularizer, numbers, theta in by_regulariser(groups, regularisers)
    ]
