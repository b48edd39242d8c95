"""The text of a derived Triton module: one program per group, the group in registers; `source.py` fills the $fields."""

TRITON = '''"""Fused prox of the projected perspective regulariser: $declaration. Needs torch and triton only.

One program per row of v (rows, n): it reads the row once, finds y by Newton from y = 0 inside a bracket, and writes the
row's prox and y once. float32; TRITON_INTERPRET=1 runs it on a CPU.
"""

import torch
import triton
import triton.language as tl

EPSILON = tl.constexpr(1.2e-7)
INFINITY = tl.constexpr(float("inf"))


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
def _prox_kernel(_v_ptr, _w_ptr, _y_ptr, _step_ptr$pointers, _n, BLOCK: tl.constexpr):
    _row = tl.program_id(0)
    _lane = tl.arange(0, BLOCK)
    _mask = _lane < _n
    _v = tl.load(_v_ptr + _row * _n + _lane, mask=_mask, other=0.0)
    _step = tl.load(_step_ptr + _row)
$loads
    _price = $price
    _steepest = $steepest
    _top = $legendre_top
$magnitude
    _bound = $bounds
    _s, _h, _f = _terms(_a, 0.0, _step, _bound$params)
    _beyond = tl.where(_bound == INFINITY, _a - _step * _steepest, -_a)
    _h = tl.where(_beyond > 0, _top, _h)
    _excess = _price - tl.sum(_h)
    _bend = tl.sum(_f)
    _positive = _excess >= 0
    _s1, _h1, _f1 = _terms(_a, 1.0, _step, _bound$params)
    _full = _price - tl.sum(_h1) <= 0
    _y = 0.0 * _price + tl.where(_positive, 0.0, tl.where(_full, 1.0, 0.0))
    _low = 0.0 * _y
    _high = 0.0 * _y + 1.0
    _busy = (_positive == 0) & (_full == 0)
    _turn = 0
    while _busy & (_turn < 100):
        _low = tl.where(_excess < 0, _y, _low)
        _high = tl.where(_excess < 0, _high, _y)
        _new = _y - _excess / _bend
        _inside = (_new >= _low) & (_new <= _high) & (_turn < 50)
        _new = tl.where(_inside, _new, (_low + _high) * 0.5)
        _rough = tl.abs(_excess) > 4 * EPSILON * _price
        _moved = tl.abs(_new - _y)
        _y = tl.where(_rough, _new, _y)
        _busy = _rough & (_moved > 2 * EPSILON * _y)
        _s, _h, _f = _terms(_a, _y, _step, _bound$params)
        _excess = _price - tl.sum(_h)
        _bend = tl.sum(_f)
        _turn += 1
    _s, _h, _f = _terms(_a, _y, _step, _bound$params)
    _size = tl.where(_positive, tl.where(_beyond > 0, _beyond, 0.0), _y * _s)
$answer
    _bad = tl.sum(tl.where(_v != _v, 1, 0)) > 0
    tl.store(_w_ptr + _row * _n + _lane, tl.where(_bad, float("nan"), _w), mask=_mask)
    tl.store(_y_ptr + _row, tl.where(_bad, float("nan"), _y))


def prox_and_indicator(v, step$signature):
    """(prox of step r at every row of v, y of every row): shapes (..., n) and (...,). v float32 on the device.

    step and the parameters: floats, or tensors with one number per row, shape (..., 1).
    """
    if v.dtype != torch.float32:
        raise TypeError(f"the fused kernel takes float32, not {v.dtype}; convert, or use the torch source")
    n = v.shape[-1]
    flat = v.reshape(-1, n).contiguous()
    w, y = torch.empty_like(flat), flat.new_empty(len(flat))

    def column(x):
        x = x.to(flat).expand(*v.shape[:-1], 1) if isinstance(x, torch.Tensor) and x.ndim else flat.new_full((len(flat),), x)
        return x.reshape(-1).contiguous()

    if len(flat):
        block = triton.next_power_of_2(n)
        _prox_kernel[(len(flat),)](flat, w, y, column(step)$columns, n, BLOCK=block)
    return w.reshape(v.shape), y.reshape(v.shape[:-1])


def prox(v, step$signature):
    """argmin_w |w - v|^2 / 2 + step r(w) for every row of v (..., n), with exact zeros."""
    return prox_and_indicator(v, step$keywords)[0]
'''

SEPARATE_TRITON_TERMS = '''@triton.jit
def _root(_a, _y, _step$params):
    """The s >= 0 with y s + step phi'(s) = a, before the box cuts it."""
$root


@triton.jit
def _terms(_a, _y, _step, _bound$params):
    """s_k(y) cut at the box, phi*((a - y s) / step), and minus its derivative in y."""
    _r = _root(_a, _y, _step$params)
    _cut = _r > _bound
    _s = tl.where(_cut, _bound, _r)
    _bend = _curvature(_s$params) + 0.0 * _a
    _uncut = tl.where(_s == INFINITY, _s, _legendre(_s$params) + 0.0 * _a)
    _h = tl.where(_cut, _bound * ((_a - _y * _bound) / _step) - _cost(_bound$params), tl.where(_s > 0, _uncut, 0.0))
    _f = tl.where(_cut, _bound * _bound / _step, tl.where(_s > 0, _s * _s * (_bend / (_y + _step * _bend)), 0.0))
    return _s, _h, _f'''

NUMERIC_TRITON_ROOT = """    _active = _a > _step * ($floor)
    _runaway = tl.where(_y + 0.0 * _a == 0, _a, -1.0) >= _step * ($steepest)  # no finite root
    _low = 0.0 * _a
    _high = 0.0 * _a + 1.0
    _turn = 0
    _left = 1
    while (_left > 0) & (_turn < 128):
        _reached = _y * _high + _step * _slope(_high$params) >= _a
        _short = _active & (_runaway == 0) & (_reached == 0)
        _low = tl.where(_short, _high, _low)
        _high = tl.where(_short, 2 * _high, _high)
        _left = tl.sum(tl.where(_short, 1, 0))
        _turn += 1
    _s = tl.where(_active, _high, 0.0)
    for _ in range(40):
        _excess = _y * _s + _step * _slope(_s$params) - _a
        _low = tl.where(_excess < 0, _s, _low)
        _high = tl.where(_excess < 0, _high, _s)
        _new = _s - _excess / (_y + _step * _curvature(_s$params))
        _good = (_new >= _low) & (_new <= _high)
        _middle = tl.where(_low > 0, tl.sqrt(_low) * tl.sqrt(_high), _high * 0.0625)
        _s = tl.where(_active & (_excess != 0), tl.where(_good, _new, _middle), _s)
    return tl.where(_active, tl.where(_runaway, INFINITY, _s), 0.0)"""
