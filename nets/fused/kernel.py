"""The compiled loops: one unit of the segment table after the other is gathered, updated, shrunk and written back.

A unit fits the core's own cache (a filter of 4,608 numbers takes 36 kB as float64), so that memory is read once and
written once. The prox is called through its C address: these loops are compiled once, whatever the regulariser. They free
Python's lock; the caller runs them in plain threads over shares of the units.
"""

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic


@intrinsic
def _pointer(context, address):
    """An address as a pointer."""

    def build(_context, builder, _signature, arguments):
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(address), build


@intrinsic
def _call_prox(context, prox, x, n, step, start, tolerance, theta, worth, out):
    """Call `prox_address` of a derived module; x, theta, out are addresses of float64 numbers."""
    number, whole = types.float64, types.int64
    signature = types.void(whole, whole, whole, number, number, number, whole, whole, whole)

    def build(context, builder, _signature, arguments):
        real, integer = ir.DoubleType(), ir.IntType(64)
        cell = real.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [cell, integer, real, real, real, cell, integer, cell])
        function = builder.inttoptr(arguments[0], kind.as_pointer())
        given = list(arguments[1:])
        for place in (0, 5, 7):
            given[place] = builder.inttoptr(given[place], cell)
        builder.call(function, given)
        return context.get_dummy_value()

    return signature, build


@njit(error_model="numpy")
def _take(array, offset, length, gathered, positions, spare):
    """The segment's numbers in a row: the memory itself, or a copy in `spare` where they are gathered."""
    if not gathered:
        return array[offset : offset + length]
    at = positions[offset : offset + length]
    for i in range(length):
        spare[i] = array[at[i]]
    return spare[:length]


@njit(error_model="numpy")
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


@njit(error_model="numpy")
def _descend(x, w, g, rule):
    """x = w - lr (g + decay w), in the weights' own precision, as torch does."""
    rate, decay = rule[0], rule[1]
    for i in range(len(w)):
        x[i] = w[i] - rate * (g[i] + decay * w[i])


@njit(error_model="numpy")
def _descend_with_momentum(x, w, g, m, rule):
    """d = g + decay w; m = momentum m + d; x = w - lr m, or w - lr (d + momentum m) by Nesterov."""
    rate, decay, momentum, nesterov = rule[0], rule[1], rule[2], rule[3] != 0
    for i in range(len(w)):
        d = g[i] + decay * w[i]
        b = momentum * m[i] + d
        m[i] = b
        x[i] = w[i] - rate * (d + momentum * b if nesterov else b)


@njit(error_model="numpy")
def _adam(x, w, g, m, v, rule):
    """AdamW: rule = (1 - lr decay, 1 - beta1, beta2, 1 - beta2, sqrt(1 - beta2^t), eps, lr / (1 - beta1^t))."""
    keep, new, old, fresh, correction, eps, rate = rule[0], rule[1], rule[2], rule[3], rule[4], rule[5], rule[6]
    for i in range(len(w)):
        first = m[i] + new * (g[i] - m[i])
        second = v[i] * old + fresh * g[i] * g[i]
        m[i] = first
        v[i] = second
        x[i] = w[i] * keep - rate * (first / (np.sqrt(second) / correction + eps))


@njit(error_model="numpy")
def _load(x, w):
    for i in range(len(w)):
        x[i] = w[i]


@njit(nogil=True, cache=True, error_model="numpy")
def sweep(
    units,
    table,
    positions,
    addresses,
    numels,
    kind,
    rules,
    steps,
    starts,
    tolerance,
    prox,
    theta,
    layer_of,
    worth,
    report,
):
    """Update (kind; rules by tensor) and prox (steps by unit; 0: leave alone, inf: zero) every unit of `units`, in place.

    table      (first, sizes, tensor, offset, length, gathered): see nets/fused/segments.py
    kind       0: no update, 1: SGD, 2: AdamW; rules (tensors, numbers), of the weights' dtype
    addresses  (4, tensors): weights, gradients (0: none), first and second state (0: none)
    theta      (layers, parameters) float64; report (units, 4) is filled: y, value where `worth`, F(y), is all zero
    """
    first, sizes, tensor, offset, length, gathered = table
    largest = 1
    for u in units:
        largest = max(largest, sizes[u])
    scratch, out = np.empty(largest), np.zeros(4)
    spare = np.empty((4, largest), rules.dtype)
    for u in units:
        step = steps[u]
        if (kind == 0 and step == 0) or sizes[u] == 0:
            continue
        x = scratch[: sizes[u]]
        done = 0
        for s in range(first[u], first[u + 1]):
            t, at, n, loose = tensor[s], offset[s], length[s], gathered[s]
            w = _take(carray(_pointer(addresses[0, t]), (numels[t],), rules.dtype), at, n, loose, positions, spare[0])
            part = x[done : done + n]
            done += n
            if kind == 0 or addresses[1, t] == 0:
                _load(part, w)
                continue
            g = _take(carray(_pointer(addresses[1, t]), (numels[t],), rules.dtype), at, n, loose, positions, spare[1])
            if addresses[2, t] == 0:
                _descend(part, w, g, rules[t])
                continue
            state = carray(_pointer(addresses[2, t]), (numels[t],), rules.dtype)
            m = _take(state, at, n, loose, positions, spare[2])
            if kind == 1:
                _descend_with_momentum(part, w, g, m, rules[t])
            else:
                other = carray(_pointer(addresses[3, t]), (numels[t],), rules.dtype)
                v = _take(other, at, n, loose, positions, spare[3])
                _adam(part, w, g, m, v, rules[t])
                if loose:
                    _put(other, at, n, loose, positions, v)
            if loose:
                _put(state, at, n, loose, positions, m)
        if step == np.inf:
            x[:] = 0.0
            out[0], out[1], out[2], out[3] = 0.0, 0.0, 0.0, 1.0
        elif step != 0:
            place = theta.ctypes.data + layer_of[u] * theta.shape[1] * 8
            _call_prox(prox, x.ctypes.data, len(x), step, starts[u], tolerance, place, np.int64(worth), out.ctypes.data)
        if step != 0 and len(report) > 0:
            report[u] = out
        done = 0
        for s in range(first[u], first[u + 1]):
            t, n = tensor[s], length[s]
            w = carray(_pointer(addresses[0, t]), (numels[t],), rules.dtype)
            _put(w, offset[s], n, gathered[s], positions, x[done : done + n])
            done += n
