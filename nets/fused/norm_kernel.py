"""The compiled loops of batch normalisation with ReLU: memory in the order (rows, channels), rows = batch * height * width.

A tensor is read as one flat array in tiles of `period` numbers, a multiple of the channels, so that every number of a tile has
its own centre, scale and shift in a row beside it: the loops are vectorised alike for 16 channels and for 15. Numbers are
float32, or bfloat16 as the words they are kept in. Sums are taken by lane (place in a tile) in float32 over at most BLOCK tiles,
and from there in float64, in an order that depends on the shape alone.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

BLOCK = 32  # tiles whose sums float32 holds

loops = njit(error_model="numpy", fastmath={"contract"})


@intrinsic
def wide(context, word):
    """A word of bfloat16 as the float32 it stands for; a float32 as it is."""

    def build(_context, builder, _signature, arguments):
        if word == types.float32:
            return arguments[0]
        bits = builder.shl(builder.zext(arguments[0], ir.IntType(32)), ir.Constant(ir.IntType(32), 16))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(word), build


@intrinsic
def narrow(context, number, like):
    """A float32 as `like` is kept: the nearest bfloat16, ties to even, any NaN as 0x7fc0 (as torch rounds); or as it is."""

    def build(_context, builder, _signature, arguments):
        if like == types.float32:
            return arguments[0]
        whole = ir.IntType(32)
        bits = builder.bitcast(arguments[0], whole)
        half = builder.lshr(bits, ir.Constant(whole, 16))
        odd = builder.and_(half, ir.Constant(whole, 1))
        up = builder.add(builder.add(bits, ir.Constant(whole, 0x7FFF)), odd)
        rounded = builder.trunc(builder.lshr(up, ir.Constant(whole, 16)), ir.IntType(16))
        is_nan = builder.fcmp_unordered("uno", arguments[0], arguments[0])
        return builder.select(is_nan, ir.Constant(ir.IntType(16), 0x7FC0), rounded)

    return like(number, like), build


@loops
def _affine(word, centre, scale, shift):
    """z: the normalised number."""
    return (wide(word) - centre) * scale + shift


@loops
def _rectified(z):
    """relu(z); NaN stays."""
    return np.float32(0) if z < 0 else z


@loops
def _passed(z, g):
    """What of the gradient g passes relu at z: none at 0, and all at NaN, as torch has it."""
    return np.float32(0) if z <= 0 else g


@loops
def _clear(a, b):
    for j in range(len(a)):
        a[j] = 0
        b[j] = 0


@loops
def _flush(first, second, lanes):
    """Float32 sums into the float64 ones."""
    one, two = lanes[0], lanes[1]
    for j in range(len(first)):
        one[j] += first[j]
        two[j] += second[j]
    _clear(first, second)


@loops
def _moments_one(x, centre, first, second):
    for j in range(len(x)):
        d = wide(x[j]) - centre[j]
        first[j] += d
        second[j] += d * d


@loops
def _moments_four(x, centre, first, second):
    n = len(centre)
    x0, x1, x2, x3 = x[:n], x[n : 2 * n], x[2 * n : 3 * n], x[3 * n : 4 * n]
    for j in range(n):
        c = centre[j]
        d0, d1, d2, d3 = wide(x0[j]) - c, wide(x1[j]) - c, wide(x2[j]) - c, wide(x3[j]) - c
        first[j] += (d0 + d1) + (d2 + d3)
        second[j] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)


@loops
def by_channel(lanes, channels, sums):
    """Sums by lane into sums by channel."""
    sums[:] = 0
    for begin in range(0, lanes.shape[1], channels):
        for c in range(channels):
            sums[0, c] += lanes[0, begin + c]
            sums[1, c] += lanes[1, begin + c]


@loops
def _moments(x, centre, first, second, lanes, sums):
    """Sums by channel of x - centre and of its square, into sums (2, channels)."""
    n = len(centre)
    lanes[:] = 0
    _clear(first, second)
    for begin in range(0, len(x), BLOCK * n):
        end = min(len(x), begin + BLOCK * n)
        at = begin
        while at + 4 * n <= end:
            _moments_four(x[at : at + 4 * n], centre, first, second)
            at += 4 * n
        while at < end:
            _moments_one(x[at : min(end, at + n)], centre, first, second)
            at += n
        _flush(first, second, lanes)
    by_channel(lanes, sums.shape[1], sums)


@loops
def _aim(centre, mean):
    """The tile of a mean, where it is finite (a distance from infinity would be no number), else of 0."""
    for begin in range(0, len(centre), len(mean)):
        for c in range(len(mean)):
            centre[begin + c] = mean[c] if np.isfinite(np.float32(mean[c])) else 0.0


@loops
def measure(x, scratch, lanes, sums, found):
    """Mean and biased variance by channel of x (rows * channels,), into found (2, channels), float64.

    Each stretch of memory is as long as all before it, and is measured from their mean, so that no large numbers cancel;
    stretches are joined as Chan, Golub and LeVeque do (1983). The first is measured from its first row, then from its own mean.
    scratch (3, period) float32, lanes (2, period) and sums (2, channels) float64: overwritten
    """
    centre, first, second, channels = scratch[0], scratch[1], scratch[2], found.shape[1]
    mean, square = found[0], found[1]
    start = min(len(x), BLOCK * len(centre))
    for c in range(channels):
        mean[c] = wide(x[c])
    _aim(centre, mean)
    _moments(x[:start], centre, first, second, lanes, sums)
    for c in range(channels):
        mean[c] = np.float64(centre[c]) + sums[0, c] * channels / start
        square[c] = 0.0
    done = 0
    while done < len(x):
        end = min(len(x), max(start, 2 * done))
        _aim(centre, mean)
        _moments(x[done:end], centre, first, second, lanes, sums)
        before, rows = done // channels, (end - done) // channels
        for c in range(channels):
            own, around = np.float64(centre[c]) + sums[0, c] / rows, sums[1, c] - sums[0, c] * sums[0, c] / rows
            if around < 0:
                around = 0.0
            if before == 0:
                mean[c], square[c] = own, around
            else:
                apart = own - mean[c]
                square[c] += around + apart * apart * before * rows / (before + rows)
                mean[c] = (mean[c] * before + own * rows) / (before + rows)
        done = end
    for c in range(channels):
        square[c] *= channels / len(x)


@loops
def _normalise_tile(x, y, centre, scale, shift):
    for j in range(len(x)):
        y[j] = narrow(_rectified(_affine(x[j], centre[j], scale[j], shift[j])), x[j])


@loops
def _normalise_and_add_tile(x, residual, y, centre, scale, shift):
    for j in range(len(x)):
        y[j] = narrow(_rectified(_affine(x[j], centre[j], scale[j], shift[j]) + wide(residual[j])), x[j])


@loops
def normalise(x, residual, y, tile):
    """y = relu((x - centre) scale + shift [+ residual]), rounded once; residual may be empty.

    tile  (3, period): centre, scale, shift
    """
    n, centre, scale, shift = tile.shape[1], tile[0], tile[1], tile[2]
    for at in range(0, len(x), n):
        end = min(len(x), at + n)
        if len(residual) > 0:
            _normalise_and_add_tile(x[at:end], residual[at:end], y[at:end], centre, scale, shift)
        else:
            _normalise_tile(x[at:end], y[at:end], centre, scale, shift)


@loops
def _products_tile(x, g, centre, scale, shift, first, second):
    for j in range(len(x)):
        dz = _passed(_affine(x[j], centre[j], scale[j], shift[j]), wide(g[j]))
        first[j] += dz
        second[j] += dz * (wide(x[j]) - centre[j])


@loops
def _products_by_answer_tile(x, g, y, dr, centre, first, second):
    for j in range(len(x)):
        dz = _passed(wide(y[j]), wide(g[j]))
        dr[j] = narrow(dz, x[j])
        first[j] += dz
        second[j] += dz * (wide(x[j]) - centre[j])


@loops
def collect(x, g, y, dr, tile, scratch, lanes):
    """Sums by lane of dz and of dz (x - centre), into lanes (2, period) float64; dz: what of the gradient g passes relu.

    y        the answer where there was a residual, whose gradient dr is dz; else empty, and relu is computed again from x
    scratch  (2, period) float32: overwritten
    """
    n, centre, scale, shift, first, second = tile.shape[1], tile[0], tile[1], tile[2], scratch[0], scratch[1]
    lanes[:] = 0
    _clear(first, second)
    for begin in range(0, len(x), BLOCK * n):
        stop = min(len(x), begin + BLOCK * n)
        for at in range(begin, stop, n):
            end = min(stop, at + n)
            if len(y) > 0:
                _products_by_answer_tile(x[at:end], g[at:end], y[at:end], dr[at:end], centre, first, second)
            else:
                _products_tile(x[at:end], g[at:end], centre, scale, shift, first, second)
        _flush(first, second, lanes)


@loops
def _return_tile(x, g, dx, centre, scale, shift, slope, level):
    for j in range(len(x)):
        dz = _passed(_affine(x[j], centre[j], scale[j], shift[j]), wide(g[j]))
        dx[j] = narrow(scale[j] * dz - (slope[j] * (wide(x[j]) - centre[j]) + level[j]), x[j])


@loops
def _return_passed_tile(x, dz, dx, centre, scale, slope, level):
    for j in range(len(x)):
        dx[j] = narrow(scale[j] * wide(dz[j]) - (slope[j] * (wide(x[j]) - centre[j]) + level[j]), x[j])


@loops
def give_back(x, g, dr, dx, tile):
    """dx = scale dz - slope (x - centre) - level; dz: dr where there was a residual, else (dr is empty) what of g passes relu.

    tile  (5, period): centre, scale, shift, slope, level
    """
    n, centre, scale, shift, slope, level = tile.shape[1], tile[0], tile[1], tile[2], tile[3], tile[4]
    for at in range(0, len(x), n):
        end = min(len(x), at + n)
        if len(dr) > 0:
            _return_passed_tile(x[at:end], dr[at:end], dx[at:end], centre, scale, slope, level)
        else:
            _return_tile(x[at:end], g[at:end], dx[at:end], centre, scale, shift, slope, level)
