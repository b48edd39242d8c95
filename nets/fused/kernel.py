"""The compiled loops: one batch of units after the other is gathered, updated, shrunk and written back.

A batch fits the core's own cache, so that memory is read once and written once: one filter of 4,608 numbers, or some hundred
small groups. The prox is called through its C address, once a batch: these loops are compiled once, whatever the regulariser.
The caller runs them in plain threads over shares of the units.
"""

from typing import Any

from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from nets.fused.programs import BATCH
from nets.fused.rules import adam, descend, descend_with_momentum, load, loops

FEW = 64  # numbers in a unit below which their squares are left to the prox


@intrinsic
def _pointer(context, address):
    """An address as a pointer."""

    def build(_context, builder, _signature, arguments):
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(address), build


@intrinsic
def _call_prox(
    context, prox, x, count, n, squares, known, steps, apart, starts, begun, tolerance, theta, worth, out, wide
):
    """Call `prox_rows` of a derived module (see `nets/fused/programs.py`); nothing in it can raise."""
    number, whole = types.float64, types.int64
    kinds = (*[whole] * 10, number, *[whole] * 4)

    def build(context, builder, _signature, arguments):
        real, integer, cell = ir.DoubleType(), ir.IntType(64), ir.IntType(8).as_pointer()
        given: list[Any] = list(arguments[1:])
        for place in (0, 3, 5, 7, 10, 12):  # x, squares, steps, starts, theta, out
            given[place] = builder.inttoptr(given[place], cell)
        taken = [cell, integer, integer, *[cell, integer] * 3, real, cell, integer, cell, integer]
        function = builder.inttoptr(arguments[0], ir.FunctionType(ir.IntType(32), [cell, cell, *taken]).as_pointer())
        scrap = [cgutils.alloca_once(builder, cell), cgutils.alloca_once(builder, cell)]
        scrap = [builder.bitcast(place, cell) for place in scrap]
        builder.call(function, [*scrap, *given])
        return context.get_dummy_value()

    return types.void(*kinds), build


@loops
def _take(array, offset, length, gathered, positions, spare):
    """The segment's numbers in a row: the memory itself, or a copy in `spare` where they are gathered."""
    if not gathered:
        return array[offset : offset + length]
    at = positions[offset : offset + length]
    for i in range(length):
        spare[i] = array[at[i]]
    return spare[:length]


@loops
def _put(array, offset, length, gathered, positions, values):
    """Write the segment's numbers."""
    if gathered:
        at = positions[offset : offset + length]
        for i in range(length):
            array[at[i]] = values[i]
    else:
        part = array[offset : offset + length]
        for i in range(length):
            part[i] = values[i]


@loops
def _memory(addresses, row, tensor, numels, like):
    """All numbers of a tensor; row: 0 weights, 1 gradients, 2 and 3 the optimizer's state."""
    return carray(_pointer(addresses[row, tensor]), (numels[tensor],), like.dtype)


@loops
def _fetch(part, kind, t, at, n, loose, positions, addresses, numels, rules, spare):
    """One segment into `part`: the weights after the optimizer's step, whose state is written; the sum of their squares."""
    w = _take(_memory(addresses, 0, t, numels, part), at, n, loose, positions, spare[0])
    if kind == 0 or addresses[1, t] == 0:
        return load(part, w)
    g = _take(_memory(addresses, 1, t, numels, part), at, n, loose, positions, spare[1])
    if addresses[2, t] == 0:
        return descend(part, w, g, rules[t])
    state = _memory(addresses, 2, t, numels, part)
    m = _take(state, at, n, loose, positions, spare[2])
    if kind == 1:
        total = descend_with_momentum(part, w, g, m, rules[t])
    else:
        other = _memory(addresses, 3, t, numels, part)
        v = _take(other, at, n, loose, positions, spare[3])
        total = adam(part, w, g, m, v, rules[t])
        if loose:
            _put(other, at, n, loose, positions, v)
    if loose:
        _put(state, at, n, loose, positions, m)
    return total


@loops
def sweep_runs(
    pieces, runs, segments, positions, kind, addresses, numels, rules, squares, scratch, prox, steps, own, starts,
    tolerance, theta, out, wide,
):  # fmt: skip
    """Update (kind; rules by tensor) and prox (steps) every unit of `pieces`, in place.

    pieces     (pieces, 3): a run, and its units from .. to; runs, segments: see nets/fused/segments.py
    kind       0: no update, 1: SGD, 2: AdamW; rules (tensors, numbers), of the weights' dtype
    addresses  (4, tensors): weights, gradients (0: none), first and second state (0: none)
    squares    (BATCH,) float64 and scratch (5, largest batch), of the weights' dtype: overwritten
    steps      by unit; a layer whose own is 0 takes its first unit's for all: 0 leave alone, inf zero
    starts     by unit, or empty; theta (layers, parameters); out: a report of 4 numbers a unit where wide is 4,
               4 that are overwritten where it is 0
    """
    for p in range(len(pieces)):
        run = runs[pieces[p, 0]]
        first, n, head, tail, layer, leader = run[0], run[2], run[3], run[4], run[5], run[6]
        apart = own[layer] if layer >= 0 else 0
        idle = n == 0 or layer < 0 or (apart == 0 and steps[leader] == 0)
        if n == 0 or (kind == 0 and idle):
            continue
        whole = (
            tail - head == 1 and segments[head, 4] == 0 and (segments[head, 2] == n or run[1] == 1)
        )  # one piece of memory
        many = max(1, BATCH // n)
        for begin in range(pieces[p, 1], pieces[p, 2], many):
            count = min(many, pieces[p, 2] - begin)
            x = scratch[0, : count * n]
            known = 0
            if whole and (kind == 0 or n < FEW):
                t, at = segments[head, 0], segments[head, 1] + begin * n
                if kind == 0:
                    x = _memory(addresses, 0, t, numels, x)[at : at + count * n]
                else:
                    _fetch(x, kind, t, at, count * n, False, positions, addresses, numels, rules, scratch[1:])
            else:
                done, known = 0, count
                for unit in range(begin, begin + count):
                    square = 0.0
                    for s in range(head, tail):
                        t, at, long = segments[s, 0], segments[s, 1] + unit * segments[s, 2], segments[s, 3]
                        loose = segments[s, 4] != 0
                        part = x[done : done + long]
                        square += _fetch(
                            part, kind, t, at, long, loose, positions, addresses, numels, rules, scratch[1:]
                        )
                        done += long
                    squares[unit - begin] = square
            if not idle:
                unit = first + begin
                step_at = steps.ctypes.data + 8 * (unit if apart == 1 else leader)
                start_at = starts.ctypes.data + (8 * unit if len(starts) > 0 else 0)
                theta_at, out_at = theta.ctypes.data + 8 * layer * theta.shape[1], out.ctypes.data + 8 * wide * unit
                x_at, begun = x.ctypes.data, count if len(starts) > 0 else 0
                _call_prox(
                    prox, x_at, count, n, squares.ctypes.data, known, step_at, apart, start_at, begun, tolerance, theta_at,
                    wide, out_at, wide,
                )  # fmt: skip
            if whole:
                if kind != 0:
                    t, at = segments[head, 0], segments[head, 1] + begin * n
                    _put(_memory(addresses, 0, t, numels, x), at, count * n, False, positions, x)
                continue
            done = 0
            for unit in range(begin, begin + count):
                for s in range(head, tail):
                    w, long = _memory(addresses, 0, segments[s, 0], numels, x), segments[s, 3]
                    at = segments[s, 1] + unit * segments[s, 2]
                    _put(w, at, long, segments[s, 4] != 0, positions, x[done : done + long])
                    done += long
