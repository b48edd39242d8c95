"""The text of a derived numba module: loops over one group after the other; `numba_source.py` fills the $fields.

Numbers are float32 or float64; every one is taken to float64 when it is read, and rounded once, when it is written.
fastmath is off wherever something is decided. Only the functions that add up terms may reorder their additions ("reassoc": a
sum in vector registers; "contract": a product rounded with its sum); infinities and not-a-number keep their meaning everywhere.
"""

NUMBA = '''"""Prox of the projected perspective regulariser, group by group: $declaration. Needs numpy and numba only.

`prox_group` works on one group in place, `prox_rows` on many; `prox_and_indicator` takes the rows of any array.
"""

import math

import numpy
from numba import njit

EPSILON = 2.220446049250313e-16
loops = njit(error_model="numpy", _nrt=False)  # nothing here allocates
sums = njit(error_model="numpy", _nrt=False, fastmath={"reassoc", "contract"})


@loops
def _cost($s$params):
    return $cost


@loops
def _slope($s$params):
    return $slope


@loops
def _curvature($s$params):
    return $curvature


@loops
def _legendre($s$params):
    return $legendre


@loops
def _middle(_low, _high):
    """The geometric middle of a bracket that may span magnitudes; from zero, and to infinity, a quick descent or climb."""
    if _high == math.inf:
        return 2.0 * _low if _low < 1e3 else min(_low * _low, 1e300)
    if _low > 0:
        return numpy.sqrt(_low) * numpy.sqrt(_high)
    return _high * _high if 1e-150 < _high < 0.0625 else _high * 0.0625


$terms


@loops
def _find(_x, _step, _start, _tolerance, _upper, _lower, _worth$params):
    """(y, what is left of F(y), was F(0) >= 0): Newton from `start` inside a bracket; the ends are looked at when reached.

    The step is Newton's for F = price - h turned into price^(-1/2) - h^(-1/2): of a quadratic cost that is affine in y. Its
    error is the square of the last one's, about: after a move below sqrt(tolerance) / 10 nobody looks again but for a report.
    """
    _price = $price
    _low, _high, _above, _y = 0.0, 1.0, False, _start
    _rough = (_tolerance + EPSILON * numpy.sqrt(len(_x))) * _price
    _excess = _price
    for _turn in range(200):
        _h, _f = _evaluate(_x, _y, _step, _upper, _lower$params)
        _excess = _price - _h
        if _y == 0 and _excess >= 0:
            return 0.0, _excess, True
        if _y == 1 and _excess <= 0:
            return 1.0, _excess, False
        if _excess < 0:
            _low, _above = _y, True
        else:
            _high = _y
        if abs(_excess) <= _rough and _y > 0:
            break
        _over = _h / _price
        _new = _y - _excess / _f * ($stretch)
        if _above and _low < _new < _high and 100.0 * (_new - _y) ** 2 <= _tolerance * _y * _y:
            if _worth:
                _h, _f = _evaluate(_x, _new, _step, _upper, _lower$params)
            return _new, _price - _h if _worth else 0.0, False
        if not _above and not _new > 0:
            _new = 0.0
        elif _high == 1 and not _new < 1:
            _new = 1.0
        elif not (_low <= _new <= _high and _turn < 60):
            _new = (_low + _high) / 2 if 0 < _low and _turn < 120 else _middle(_low, _high)
        _moved = abs(_new - _y)
        if _moved <= 2 * EPSILON * _y:
            break
        _y = _new
    if not _above:
        _h, _f = _evaluate(_x, 0.0, _step, _upper, _lower$params)
        if _price - _h >= 0:
            return 0.0, _price - _h, True
    return _y, _excess, False


$prepare


@loops
def prox_rows(_x, _count, _n, _squares, _steps, _apart, _starts, _tolerance, _theta, _worth, _out, _wide):
    """Replace `count` rows of n numbers, one after the other in the flat `_x`, by their prox; each row is one group.

    squares empty, or sum x^2 of every row, if somebody knows it already
    steps   float64, one a row where apart is 1, one for all where it is 0; 0 leaves a row alone, infinity makes it zero
    starts  float64, empty or one a row, in [0, 1]: where the search for y begins (the last y)
    theta   the parameters, in the order of their names; tolerance: of F(y) / price, where the search ends
    out     four numbers a row where wide is 4, four that are overwritten where it is 0: y, r of the answer (asked for by
            _worth), F(y), is it all zero?
    """
    _last = 1.0
    _ready = _prepare(_last, _theta)
    for _row in range(_count):
        _step = _steps[_row * _apart]
        if _step == 0:
            continue
        _group, _note = _x[_row * _n : (_row + 1) * _n], _out[_row * _wide : _row * _wide + 4]
        if _step == math.inf:
            _group[:] = 0.0
            _note[0], _note[1], _note[2], _note[3] = 0.0, 0.0, 0.0, 1.0
            continue
        if _step != _last:
            _last = _step
            _ready = _prepare(_step, _theta)
        _square = _squares[_row] if len(_squares) > 0 else -1.0
        _start = _starts[_row] if len(_starts) > 0 else 0.0
        prox_group(_group, _square, _step, _start, _tolerance, _ready, _theta, _worth, _note)


def prox_and_indicator(v, step$signature):
    """(prox of step r at every row of v, y of every row): shapes (..., n) and (...,), float64. step: float or (...,)."""
    rows = numpy.array(v, dtype=numpy.float64)
    count, n = rows.size // rows.shape[-1] if rows.size else 0, rows.shape[-1]
    steps = numpy.ascontiguousarray(numpy.broadcast_to(numpy.asarray(step, dtype=numpy.float64), rows.shape[:-1])).ravel()
    theta, out = numpy.array([$listed], dtype=numpy.float64), numpy.empty(4 * count)
    prox_rows(rows.reshape(-1), count, n, numpy.empty(0), steps, 1, numpy.empty(0), 2e-16, theta, False, out, 4)
    return rows, out[::4].reshape(rows.shape[:-1])


def prox(v, step$signature):
    """argmin_w |w - v|^2 / 2 + step r(w) for every row of v (..., n), with exact zeros."""
    return prox_and_indicator(v, step$keywords)[0]
'''

PLAIN = """@loops
def _prepare(_step, _theta):
    return 0.0


"""

HEAD = """@loops
def prox_group(_x, _square, _step, _start, _tolerance, _ready, _theta, _worth, _out):
    \"\"\"Replace the group `_x` by its prox; step > 0 finite, ready = _prepare(step, theta), square -1 if not known.\"\"\"
$unpack
"""

GROUP = """    _upper, _lower = $upper, $lower
    _odd = 0
    for _k in range(len(_x)):
        _odd += 1 if _x[_k] != _x[_k] else 0
    if _odd > 0:
        _x[:] = math.nan
        _out[:] = math.nan
        return
$magnitudes
    _begin = _start if _start > 0 else _guess_y(_m, $known, _step, _upper, _lower$params)
    _y, _left, _unpaid = _find(_m, _step, _begin, _tolerance, _upper, _lower, _worth$params)
    if _unpaid:
        _total, _zero = _write_unpaid(_m, _step, _upper, _lower$params)
    else:
        _total, _zero = _write(_m, _y, _step, _upper, _lower, _worth$params), False
$directions
    _out[0], _out[1], _out[2], _out[3] = _y, _total + _y * ($price), _left, _zero"""
