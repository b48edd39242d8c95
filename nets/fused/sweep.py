"""The fused prox: all groups of a network in one pass over memory, by compiled loops on the CPU.

The scalar pieces are the ones which the derivation writes (`Regularizer.source("numba")`), so that every declared cost has
this path. Weights are float32 or float64; a group is computed in float64 and rounded once, as `loop` does.
"""

import itertools
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from nets.fused.segments import Segments, build_segments
from nets.fused.triton_sweep import run_on_device
from nets.groups import ChannelGroups
from perspective.errors import InputError

SGD, ADAMW = 1, 2  # kinds of an Update
WEIGHT, GRADIENT, FIRST, SECOND = range(4)  # rows of its addresses
SHARE = 100_000  # numbers that are worth a thread
TOLERANCE = {torch.float32: 1e-10, torch.float64: 1e-15}  # of F(y) / price, where the search for y ends

_TABLES: "WeakKeyDictionary[ChannelGroups, Segments]" = WeakKeyDictionary()


@final
@dataclass(frozen=True)
class GroupReport:
    """What the fused prox found, (channels,) each; not-a-number where a group was left alone (step 0).

    indicator  y* of the answer; value: r of the answer; residual: what is left of F(y); zero: is the whole group zero?
    """

    indicator: np.ndarray
    value: np.ndarray
    residual: np.ndarray
    zero: np.ndarray


@final
@dataclass(frozen=True)
class Update:
    """What is done to the weights on the way: kind, rules and addresses as `nets.fused.kernel.sweep` takes them."""

    kind: int
    rules: np.ndarray
    addresses: np.ndarray
    held: tuple[Tensor, ...] = ()  # what the addresses point into lives as long as they do


def prox_fused(
    groups: ChannelGroups,
    steps: Mapping[str, float | Tensor],
    regularisers: Mapping[str, Any],
    report: bool = False,
    starts: Mapping[str, np.ndarray] | None = None,
) -> dict[str, GroupReport]:
    """Replace every group by its prox, in the network's own parameters; steps as in `nets.prox.prox_step`.

    report  also fill and return a GroupReport for each layer (else an empty dict)
    starts  by layer, (channels,): where the searches for y begin, the last indicators for instance; the answer is the
            same to rounding, and not to the bit, so that training, which must resume to the bit, starts afresh
    """
    table = _TABLES.get(groups)
    if table is None or not table.fits():
        table = _TABLES[groups] = build_segments(groups)
    return run(table, groups, steps, regularisers, None, report, starts)


def run(
    table: Segments,
    groups: ChannelGroups,
    steps: Mapping[str, float | Tensor],
    regularisers: Mapping[str, Any],
    update: Update | None,
    report: bool = False,
    starts: Mapping[str, np.ndarray] | None = None,
) -> dict[str, GroupReport]:
    """One sweep over the table: the update, then the prox; InputError where the tensors cannot be taken."""
    if is_on_gpu(table):
        found_there = run_on_device(table, groups, steps, regularisers, None, None, report, starts)
        if found_there is None:
            return {}
        return {layer.name: _report(found_there, table.start_of[layer.name], layer.channels) for layer in groups.layers}
    dtype = _common_dtype(table)
    real = np.float32 if dtype == torch.float32 else np.float64
    if update is None:
        addresses = np.zeros((4, len(table.tensors)), dtype=np.int64)
        addresses[0] = [p.data_ptr() for p in table.tensors]
        update = Update(0, np.zeros((len(table.tensors), 1), dtype=real), addresses)
    tau, begin = np.zeros(len(table.sizes)), np.zeros(len(table.sizes))
    for layer in groups.layers:
        part = slice(table.start_of[layer.name], table.start_of[layer.name] + layer.channels)
        tau[part] = np.asarray(steps[layer.name], dtype=np.float64)
        if starts is not None:
            begin[part] = starts[layer.name]
    if not (tau >= 0).all():
        raise InputError("a prox step is negative or not a number; it is the learning rate times the strength")
    found = np.full((len(table.sizes) if report else 0, 4), np.nan)
    for prox, theta, units in _by_regulariser(table, groups, regularisers):
        fixed = (*_columns(table), table.positions, update.addresses, _numels(table), update.kind, update.rules)
        rest = (tau, begin, TOLERANCE[dtype], prox, theta, table.layer_of, report, found)
        _spread(table, units, fixed, rest)
    torch.autograd.graph.increment_version(table.tensors)  # saved for a backward pass, they are not what they were
    if not report:
        return {}
    return {layer.name: _report(found, table.start_of[layer.name], layer.channels) for layer in groups.layers}


def is_on_gpu(table: Segments) -> bool:
    """Is it the Triton kernel's turn? Any other place than a GPU or the CPU is refused later, with a sentence."""
    return any(p.device.type == "cuda" for p in table.tensors)


def _spread(table: Segments, units: np.ndarray, fixed: tuple[Any, ...], rest: tuple[Any, ...]) -> None:
    """Shares of the units to as many threads as torch uses. Threads end with the call: a later fork finds none."""
    from nets.fused.kernel import sweep

    columns, others = fixed[:6], fixed[6:]
    ends = np.cumsum(table.sizes[units])
    threads = max(1, min(torch.get_num_threads(), int(ends[-1]) // SHARE)) if len(ends) else 1
    if threads == 1:
        sweep(units, columns, *others, *rest)
        return
    cuts = np.searchsorted(ends, np.linspace(0, ends[-1], 8 * threads + 1)[1:-1])
    shares, turn = np.split(units, cuts), itertools.count()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while (number := next(turn)) < len(shares):
                sweep(shares[number], columns, *others, *rest)
        except BaseException as error:  # handed to the caller's thread below
            failures.append(error)

    helpers = [threading.Thread(target=work) for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    work()
    for helper in helpers:
        helper.join()
    if failures:
        raise failures[0]


def _by_regulariser(
    table: Segments, groups: ChannelGroups, regularisers: Mapping[str, Any]
) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """(address of the prox, parameters by layer, units) for each derived regulariser; pieces of no group go with the first."""
    members: dict[Any, list[int]] = {}
    for number, layer in enumerate(groups.layers):
        members.setdefault(regularisers[layer.name].regularizer, []).append(number)
    found = []
    for regularizer, numbers in members.items():
        names = regularizer.block.parameters
        theta = np.zeros((len(groups.layers), max(len(names), 1)))
        for number in numbers:
            parameters = regularisers[groups.layers[number].name].parameters
            theta[number, : len(names)] = [parameters[name] for name in names]
        if len(members) == 1:
            units = np.arange(len(table.sizes))
        else:
            units = np.flatnonzero(np.isin(table.layer_of, numbers if found else [*numbers, -1]))
        found.append((_compiled(regularizer).address, theta, units))
    return found


@lru_cache(maxsize=32)
def _compiled(regularizer: Any) -> Any:
    """Run the text that our own derivation wrote; it holds formulas only, and nothing from outside ever enters it."""
    namespace: dict[str, Any] = {"__name__": "perspective_numba_source"}
    exec(compile(regularizer.source("numba"), "<derived numba source>", "exec"), namespace)
    return namespace["prox_address"]


def _common_dtype(table: Segments) -> torch.dtype:
    kinds = {(p.dtype, p.device.type) for p in table.tensors}
    if any(device != "cpu" for _, device in kinds):
        raise InputError("fused runs on the CPU only, and the network is not there; choose implementation='flat'")
    if len(kinds) != 1 or next(iter(kinds))[0] not in TOLERANCE:
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype, _ in kinds))
        raise InputError(f"fused takes float32 or float64 weights, all of one kind, not {names}; choose 'flat'")
    return next(iter(kinds))[0]


def _columns(table: Segments) -> tuple[np.ndarray, ...]:
    return table.first, table.sizes, table.tensor, table.offset, table.length, table.gathered


def _numels(table: Segments) -> np.ndarray:
    return np.array([p.numel() for p in table.tensors], dtype=np.int64)


def _report(found: Any, start: int, channels: int) -> GroupReport:
    y, value, residual, zero = found[start : start + channels].T
    return GroupReport(indicator=y, value=value, residual=residual, zero=zero)
