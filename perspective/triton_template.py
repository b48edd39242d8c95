"""The text of a derived Triton module: tiles of groups in registers, one group a row; `triton_source.py` fills the $fields.

Whoever has groups that do not fit a tile calls _begin, _evaluate, _advance and _shrink on piece after piece (costs joined by
a norm need the whole group: JOINED; so does a ball: BALL). Lanes beyond a group hold zeros, which no sum notices.
"""

TRITON = '''"""Fused prox of the projected perspective regulariser: $declaration. Needs torch and triton only.

`_solve` works on a tile (groups, numbers) in registers: it reads each group once, finds y by Newton inside a bracket, and
writes once. float32 or float64; TRITON_INTERPRET=1 runs it on a CPU.
"""

import torch
import triton
import triton.language as tl

INFINITY = tl.constexpr(float("inf"))
BALL, JOINED = $ball, $joined


@triton.jit
def _total(_x):
    return tl.sum(_x, 1, keep_dims=True)


@triton.jit
def _largest(_x):
    return tl.max(_x, 1, keep_dims=True)


@triton.jit
def _any(_x):
    return tl.max(tl.where(_x, 1, 0)) > 0


@triton.jit
def _middle(_low, _high):
    """The geometric middle of a bracket that may span magnitudes; from zero, and to infinity, a quick descent or climb."""
    _climb = tl.where(_low < 1000.0, 2.0 * _low, tl.where(_low < 1e15, _low * _low, 16.0 * _low))
    _fall = tl.where((_high < 0.0625) & (_high > 1e-15), _high * _high, _high * 0.0625)
    _between = tl.where(_low > 0, tl.sqrt(_low) * tl.sqrt(_high), _fall)
    return tl.where(_high == INFINITY, _climb, _between)


@triton.jit
def _cost($s$params):
    return $cost


@triton.jit
def _slope($s$params):
    return $slope


@triton.jit
def _curvature($s$params):
    return $curvature


@triton.jit
def _legendre($s$params):
    return $legendre


$terms


@triton.jit
def _box(_v, _step$params):
    """The box on the side of v's sign."""
    return $bounds


@triton.jit
def _beyond(_a, _step, _bound$params):
    """> 0: what stays of a weight as y -> 0, beyond the steepest slope of a cost without a box."""
    return tl.where(_bound == INFINITY, _a - _step * ($steepest), -1.0 - _a)


@triton.jit
def _evaluate(_a, _y, _step, _bound$params):
    """sum_k phi*((a_k - y s_k) / step) and minus its derivative in y, row by row."""
    _s, _h, _f = _terms(_a, _y, _step, _bound$params)
    _h = tl.where((_y == 0) & (_beyond(_a, _step, _bound$params) > 0), $legendre_top, _h)
    return _total(_h), _total(_f)


@triton.jit
def _begin(_a, _step, _bound$params):
    """Three numbers a row, from which `_known` says where the search starts: a sum, a largest and a smallest."""
$begin


@triton.jit
def _known(_sum, _most, _least, _start, _step$params):
    """(y where the search starts, is it the answer?, what is left of F(y) there)."""
    _price = $price
$known


@triton.jit
def _advance(_y, _low, _high, _above, _excess, _bend, _turn, _price):
    """One step of Newton inside the bracket [low, high]; the ends 0 and 1 are looked at when reached.

    (the next y, low, high, was F < 0 seen?, is this y the answer?)
    """
    _eps = 2.220446049250313e-16 if _y.dtype == tl.float64 else 1.1920929e-07
    _below = _excess < 0
    _end = ((_y == 0) & (_excess >= 0)) | ((_y == 1) & (_excess <= 0))
    _low = tl.where(_below, _y, _low)
    _high = tl.where(_below, _high, _y)
    _above = tl.where(_below, 1, _above)
    _small = tl.abs(_excess) <= 4 * _eps * _price
    _done = _end | (_small & (_y > 0) & (_above > 0))
    _new = _y - _excess / _bend
    _half = tl.where((_low > 0) & (_turn < 90), (_low + _high) * 0.5, _middle(_low, _high))
    _inside = (_new >= _low) & (_new <= _high) & (_turn < 60)
    _next = tl.where((_high == 1) & ((_new < 1) == 0), 1.0, tl.where(_inside, _new, _half))
    _still = tl.abs(_next - _y) <= 2 * _eps * _y
    _down = (_above == 0) & (((_new > 0) == 0) | _small | _still)  # F(0) >= 0 is possible: look there first
    _next = tl.where(_down, 0.0, _next)
    _done = _done | (_still & (_down == 0))
    return tl.where(_done, _y, _next), _low, _high, _above, _done


@triton.jit
def _shrink(_a, _y, _zero, _step, _bound$params):
    """The magnitudes of the prox: y s_k(y), never above a; where F(0) >= 0 (zero) what is beyond the steepest slope."""
    _s, _h, _f = _terms(_a, _y, _step, _bound$params)
    _size = tl.where(_y > 0, _y * _s, 0.0)
    _size = tl.where(_size > _a, _a, _size)
    _rest = _beyond(_a, _step, _bound$params)
    return tl.where(_zero, tl.where(_rest > 0, _rest, 0.0), _size)


@triton.jit
def _paid(_size, _y, _zero, _step$params):
    """The cost's part of r of these magnitudes, sum_k y phi(size_k / y), row by row."""
    _share = tl.where(_zero | ((_y > 0) == 0), 1.0, _y)
    _inside = tl.where(_size > 0, _share * (_cost(_size / _share$params)), 0.0)
    return _total(tl.where(_zero & (_size > 0), _size * ($steepest), _inside))


@triton.jit
def _price_of(_step$params):
    return $price


@triton.jit
def _solve(_v, _lane, _step, _start, WORTH: tl.constexpr$params):
    """(prox, y, r of the prox where WORTH, what is left of F(y)) of every row of the tile v; the last three (groups, 1).

    step > 0 finite, start in [0, 1] (where the search begins; 0 if nothing is known), parameters: (groups, 1) each.
    """
    _bad = _largest(tl.where(_v == _v, 0, 1)) > 0
    _x = tl.where(_bad, 0.0, _v)
    _bound = _box(_x, _step$params)
$magnitude
    _sum, _most, _least = _begin(_a, _step, _bound$params)
    _y, _sure, _left = _known(_sum, _most, _least, _start, _step$params)
    _price = _price_of(_step$params)
    _busy = (_sure == 0) & (_bad == 0) & (_step > 0)
    _low = 0.0 * _price
    _high = _low + 1.0
    _above = tl.where(_low < 0, 1, 0)
    _turn = 0
    while _any(_busy) & (_turn < 120):
        _h, _f = _evaluate(_a, _y, _step, _bound$params)
        _excess = _price - _h
        _left = tl.where(_busy, _excess, _left)
        _y1, _low1, _high1, _above1, _done = _advance(_y, _low, _high, _above, _excess, _f, _turn, _price)
        _y = tl.where(_busy, _y1, _y)
        _low = tl.where(_busy, _low1, _low)
        _high = tl.where(_busy, _high1, _high)
        _above = tl.where(_busy, _above1, _above)
        _busy = _busy & (_done == 0)
        _turn += 1
    _zero = (_y == 0) & (_left >= 0)
    _size = _shrink(_a, _y, _zero, _step, _bound$params)
$answer
    _worth = _left
    if WORTH:
        _worth = _paid(_size, _y, _zero, _step$params) + _y * _price
    _none = tl.where(_bad, float("nan"), 0.0)
    return _w + _none, _y + _none, _worth + _none, _left + _none


@triton.jit
def _prox_kernel(_v_ptr, _w_ptr, _y_ptr, _step_ptr$pointers, _n, BLOCK: tl.constexpr):
    _row = tl.program_id(0) + tl.zeros((1, 1), tl.int32)
    _lane = tl.arange(0, BLOCK)[None, :]
    _mask = _lane < _n
    _v = tl.load(_v_ptr + _row * _n + _lane, mask=_mask, other=0.0)
    _step = tl.load(_step_ptr + _row)
$loads
    _w, _y, _r, _left = _solve(_v, _lane, _step, 0.0 * _step, False$params)
    tl.store(_w_ptr + _row * _n + _lane, _w, mask=_mask)
    tl.store(_y_ptr + _row, _y)


def prox_and_indicator(v, step$signature):
    """(prox of step r at every row of v, y of every row): shapes (..., n) and (...,). v float32 or float64 on the device.

    step and the parameters: floats, or tensors with one number per row, shape (..., 1).
    """
    if v.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"the fused kernel takes float32 or float64, not {v.dtype}; convert, or use the torch source")
    n = v.shape[-1]
    flat = v.reshape(-1, n).contiguous()
    w, y = torch.empty_like(flat), flat.new_empty(len(flat))

    def column(x):
        x = x.to(flat).expand(*v.shape[:-1], 1) if isinstance(x, torch.Tensor) and x.ndim else flat.new_full((len(flat),), x)
        return x.reshape(-1).contiguous()

    if len(flat):
        block = triton.next_power_of_2(n)
        _prox_kernel[(len(flat),)](flat, w, y, column(step)$columns, n, BLOCK=block, enable_fp_fusion=True)
    return w.reshape(v.shape), y.reshape(v.shape[:-1])


def prox(v, step$signature):
    """argmin_w |w - v|^2 / 2 + step r(w) for every row of v (..., n), with exact zeros."""
    return prox_and_indicator(v, step$keywords)[0]
'''

BOX_MAGNITUDE = "    _a = tl.where(_bound > 0, tl.abs(_x), 0.0)"
BOX_ANSWER = "    _w = tl.where(_x < 0, 0.0 - _size, _size) + 0.0"

BALL_MAGNITUDE = """    _scale = _largest(tl.abs(_x))
    _scale = tl.where((_scale > 0) & (_scale < INFINITY), _scale, 1.0)
    _unit = _x / _scale
    _norm = _scale * tl.sqrt(_total(_unit * _unit))
    _a = tl.where(_lane == 0, _norm, 0.0 * _unit)  # one magnitude: the norm, in the first lane
    _a = tl.where(_a == _a, _a, 0.0)"""

BALL_ANSWER = """    _ends = tl.where(tl.abs(_x) == INFINITY, tl.where(_x < 0, -1.0, 1.0), 0.0)
    _count = _total(tl.abs(_ends))
    _ends = _ends / tl.sqrt(tl.where(_count > 0, _count, 1.0))  # infinite entries share the length
    _finite = tl.where(_count > 0, 0.0, _x / tl.where(_norm > 0, _norm, 1.0))
    _unit = tl.where(_count > 0, _ends, _finite)
    _w = tl.where(_unit == 0, 0.0, _unit * _total(_size)) + 0.0"""
