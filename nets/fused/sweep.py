"""The fused prox: all groups of a network in one pass over memory, by compiled loops on the CPU.

The scalar pieces are the ones which the derivation writes (`Regularizer.source("numba")`), so that every declared cost has
this path. Weights are float32 or float64; a group is computed in float64 and rounded once, as `loop` does.
"""

import itertools
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from nets.fused.plan import Plan, make_plan
from nets.fused.programs import sweep
from nets.fused.segments import Segments, build_segments
from nets.fused.triton_sweep import run_on_device
from nets.groups import ChannelGroups
from perspective.errors import InputError

SGD, ADAMW = 1, 2  # kinds of an Update
WEIGHT, GRADIENT, FIRST, SECOND = range(4)  # rows of its addresses
SHARE = 100_000  # numbers that are worth a thread
TOLERANCE = {torch.float32: 1e-10, torch.float64: 1e-15}  # of F(y) / price, where the search for y ends

_TABLES: "WeakKeyDictionary[ChannelGroups, Segments]" = WeakKeyDictionary()
_PLANS: "WeakKeyDictionary[Segments, Plan]" = WeakKeyDictionary()


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
    held: tuple[Tensor, ...] = ()  # copies that the addresses point into live as long as they do


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
    plan = _PLANS.get(table)
    if plan is None or not plan.fits(groups, regularisers):
        plan = _PLANS[table] = make_plan(table, groups, regularisers, _common_dtype(table))
    if update is None:
        plan.addresses[WEIGHT] = [p.data_ptr() for p in table.tensors]
        update = Update(0, plan.no_rules, plan.addresses)
    tau, own = _steps(table, groups, steps, plan)
    begin = np.zeros(len(table.sizes) if starts is not None else 0)
    if starts is not None:
        for layer in groups.layers:
            begin[table.start_of[layer.name] :][: layer.channels] = starts[layer.name]
    found = np.full((len(table.sizes), 4), np.nan) if report else np.zeros(4)
    rest = (
        *(update.kind, _at(update.addresses), _at(update.rules), update.rules.shape[1], _at(tau), _at(own)),
        *(_at(begin), len(begin), _at(found), 4 if report else 0),
    )
    for part in plan.parts:
        _spread(plan, part, (*part.fixed, TOLERANCE[plan.dtype]), rest)
    torch.autograd.graph.increment_version(table.tensors)  # saved for a backward pass, they are not what they were
    if not report:
        return {}
    return {layer.name: _report(found, table.start_of[layer.name], layer.channels) for layer in groups.layers}


def is_on_gpu(table: Segments) -> bool:
    """Is it the Triton kernel's turn? Any other place than a GPU or the CPU is refused later, with a sentence."""
    return any(p.device.type == "cuda" for p in table.tensors)


def _steps(
    table: Segments, groups: ChannelGroups, steps: Mapping[str, float | Tensor], plan: Plan
) -> tuple[np.ndarray, np.ndarray]:
    """Steps by unit, and by layer whether its units have their own (1), or its first unit's (0)."""
    tau, own, good = np.zeros(len(table.sizes)), np.zeros(max(1, len(groups.layers)), dtype=np.int64), True
    for number, (layer, start) in enumerate(zip(groups.layers, plan.starts, strict=True)):
        step = steps[layer.name]
        if layer.channels == 0:
            continue
        if isinstance(step, float):
            tau[start] = step
            good = good and step >= 0
        else:
            part = tau[start : start + layer.channels]
            part[:] = np.asarray(step, dtype=np.float64)
            own[number] = 1
            good = good and bool((part >= 0).all())
    if not good:
        raise InputError("a prox step is negative or not a number; it is the learning rate times the strength")
    return tau, own


def _spread(plan: Plan, part: Any, fixed: tuple[Any, ...], rest: tuple[Any, ...]) -> None:
    """Shares of the units to as many threads as torch uses. Threads end with the call: a later fork finds none."""
    work_on = sweep(plan.real)
    threads = max(1, min(torch.get_num_threads(), part.numbers // SHARE))
    if threads == 1:
        work_on(
            _at(part.pieces),
            len(part.pieces),
            *fixed,
            _at(plan.squares),
            _at(plan.scratch),
            plan.scratch.shape[1],
            *rest,
        )
        return
    shares, turn = part.share(8 * threads), itertools.count()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            squares, scratch = np.empty_like(plan.squares), np.empty_like(plan.scratch)
            while (number := next(turn)) < len(shares):
                pieces = shares[number]
                work_on(_at(pieces), len(pieces), *fixed, _at(squares), _at(scratch), scratch.shape[1], *rest)
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


def _common_dtype(table: Segments) -> torch.dtype:
    kinds = {(dtype, device.type) for _, _, dtype, device in table.layouts}
    if any(device != "cpu" for _, device in kinds):
        raise InputError(
            "fused runs on the CPU or on one GPU, and the network is not there; choose implementation='flat'"
        )
    if len(kinds) != 1 or next(iter(kinds))[0] not in TOLERANCE:
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype, _ in kinds))
        raise InputError(f"fused takes float32 or float64 weights, all of one kind, not {names}; choose 'flat'")
    return next(iter(kinds))[0]


def _at(array: np.ndarray) -> int:
    """Where the array's numbers lie."""
    return int(array.__array_interface__["data"][0])


def _report(found: Any, start: int, channels: int) -> GroupReport:
    y, value, residual, zero = found[start : start + channels].T
    return GroupReport(indicator=y, value=value, residual=residual, zero=zero)
