"""The text of a derived numba module: scalar loops over one group, in float64; `numba_source.py` fills the $fields.

fastmath is off wherever something is decided. Only the functions that add up terms may reorder their additions
("reassoc": a sum in vector registers); infinities and not-a-number keep their meaning everywhere.
"""

NUMBA = '''"""Prox of the projected perspective regulariser, group by group: $declaration. Needs numpy and numba only.

`prox_group` works on one group of float64 numbers in place; `prox_and_indicator` on the rows of an array.
"""

import ctypes
import math

import numpy
from numba import carray, cfunc, njit, types

EPSILON = 2.220446049250313e-16


@njit(error_model="numpy")
def _cost($s$params):
    return $cost


@njit(error_model="numpy")
def _slope($s$params):
    return $slope


@njit(error_model="numpy")
def _curvature($s$params):
    return $curvature


@njit(error_model="numpy")
def _legendre($s$params):
    return $legendre


@njit(error_model="numpy")
def _middle(_low, _high):
    """The geometric middle of a bracket that may span magnitudes; from zero, and to infinity, a quick descent or climb."""
    if _high == math.inf:
        return 2.0 * _low if _low < 1e3 else min(_low * _low, 1e300)
    if _low > 0:
        return math.sqrt(_low) * math.sqrt(_high)
    return _high * _high if 1e-150 < _high < 0.0625 else _high * 0.0625


$terms


@njit(error_model="numpy")
def _find(_x, _step, _start, _tolerance, _upper, _lower$params):
    """(y, what is left of F(y), was F(0) >= 0): Newton from `start` inside a bracket; the ends are looked at when reached."""
    _price = $price
    _low, _high, _above, _y = 0.0, 1.0, False, _start
    _rough = (_tolerance + EPSILON * math.sqrt(len(_x))) * _price
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
        _new = _y - _excess / _f
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


@njit(error_model="numpy")
def prox_group(_x, _step, _start, _tolerance, _theta, _worth, _out):
    """Replace the float64 group `_x` by its prox. _out: y, r of the answer (asked for by _worth), F(y), is it all zero?

    step > 0 finite; start: where the search for y begins, in [0, 1] (the last y; 0 if there is none).
    """
$unpack
$group


@cfunc(
    types.void(
        types.CPointer(types.float64), types.intp, types.float64, types.float64, types.float64,
        types.CPointer(types.float64), types.intp, types.CPointer(types.float64),
    )
)
def prox_address(_x, _n, _step, _start, _tolerance, _theta, _worth, _out):
    """prox_group behind a C address, so that a kernel compiled once serves every regulariser."""
    prox_group(carray(_x, (_n,)), _step, _start, _tolerance, carray(_theta, ($count,)), _worth, carray(_out, (4,)))


def prox_and_indicator(v, step$signature):
    """(prox of step r at every row of v, y of every row): shapes (..., n) and (...,), float64. step: float or (...,)."""
    rows = numpy.array(v, dtype=numpy.float64)
    flat, theta, out = rows.reshape(-1, rows.shape[-1]), numpy.array([$listed], dtype=numpy.float64), numpy.zeros(4)
    y, steps = numpy.empty(len(flat)), numpy.broadcast_to(numpy.asarray(step, dtype=numpy.float64), rows.shape[:-1]).ravel()
    for i, row in enumerate(flat):
        at = (x.ctypes.data_as(ctypes.POINTER(ctypes.c_double)) for x in (row, theta, out))
        prox_address.ctypes(next(at), len(row), steps[i], 0.0, 2e-16, next(at), 0, next(at))
        y[i] = out[0]
    return rows, y.reshape(rows.shape[:-1])


def prox(v, step$signature):
    """argmin_w |w - v|^2 / 2 + step r(w) for every row of v (..., n), with exact zeros."""
    return prox_and_indicator(v, step$keywords)[0]
'''

GROUP = """    _upper, _lower = $upper, $lower
    for _k in range(len(_x)):
        if _x[_k] != _x[_k]:
            _x[:] = math.nan
            _out[:] = math.nan
            return
$magnitudes
    _y, _left, _unpaid = _find(_m, _step, _start, _tolerance, _upper, _lower$params)
    if _unpaid:
        _total, _zero = _write_unpaid(_m, _step, _upper, _lower$params)
    else:
        _total, _zero = _write(_m, _y, _step, _upper, _lower, _worth$params), False
$directions
    _out[0], _out[1], _out[2], _out[3] = _y, _total + _y * ($price), _left, _zero"""

BALL = """    _norm = _length(_x)
    _m = numpy.array([_norm])"""

BALL_BACK = """    _ends = 0.0
    for _k in range(len(_x)):
        _ends += 1.0 if abs(_x[_k]) == math.inf else 0.0
    for _k in range(len(_x)):  # infinite entries share the length; the finite ones beside them have no part in it
        _v = _x[_k]
        if _ends > 0:
            _unit = math.copysign(1.0 / math.sqrt(_ends), _v) if abs(_v) == math.inf else 0.0
        else:
            _unit = _v / _norm if _norm > 0 else 0.0
        _x[_k] = _unit * _m[0] + 0.0 if _unit != 0 and _m[0] != 0 else 0.0"""

LENGTH = '''@njit(error_model="numpy", fastmath={"reassoc"})
def _square(_x, _scale):
    _total = 0.0
    for _k in range(len(_x)):
        _total += (_x[_k] * _scale) * (_x[_k] * _scale)
    return _total


@njit(error_model="numpy")
def _length(_x):
    """|x|_2; scaled where plain squares underflow or overflow."""
    _total = _square(_x, 1.0)
    if 1e-280 < _total < 1e300:
        return math.sqrt(_total)
    _top = 0.0
    for _k in range(len(_x)):
        _top = max(_top, abs(_x[_k]))
    if _top == 0 or _top == math.inf:
        return _top
    _scale = 2.0 ** -math.floor(math.log2(_top))
    return math.sqrt(_square(_x, _scale)) / _scale


'''
