"""The kernel for GPUs: one launch updates, shrinks and writes all groups of a network, through the parameters' own addresses.

It is appended to the text that the derivation writes (`Regularizer.source("triton")`), whose `_solve` works on a tile of
groups in registers. A program takes ROWS groups of at most WIDTH numbers (two numbers a thread, or one group), or one larger
group in pieces of TILE numbers: its updated numbers are written first, and read again (from the cache) in every step of the
search.
TRITON_INTERPRET=1 runs the same text on a CPU: addresses are plain integers there as well.
"""

import linecache
from functools import lru_cache
from itertools import count
from string import Template
from typing import Any

from nets.fused.triton_large_group import LARGE_GROUP
from perspective.errors import InputError

LARGE = 31  # the class of groups that no tile holds
_NUMBER = count()


@lru_cache(maxsize=32)
def compiled(regularizer: Any) -> dict[str, Any]:
    """The module with `sweep`, its kernel. Our own text: it holds formulas only, and nothing from outside ever enters it.

    InputError where triton is missing, or has no form of a function that the cost uses.
    """
    try:
        import triton  # noqa: F401
    except ImportError as error:
        raise InputError(
            "fused on a GPU needs triton, which comes with torch's CUDA build; install that, or choose implementation='flat'"
        ) from error
    names = regularizer.block.parameters
    loads = "\n".join(
        f"    {name} = tl.load(_theta + _layer * {len(names)} + {i}, mask=_have, other=1.0).to(REAL)"
        for i, name in enumerate(names)
    )
    fields = {"params": "".join(f", {name}" for name in names), "loads": loads or "    # no parameters"}
    text = regularizer.source("triton") + Template(KERNEL.replace("$large", LARGE_GROUP)).substitute(fields)
    # triton reads a kernel's source back, as a traceback does: through linecache
    file = f"<derived triton source {next(_NUMBER)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    namespace: dict[str, Any] = {"__name__": f"perspective_triton_source_{next(_NUMBER)}"}
    exec(compile(text, file, "exec"), namespace)
    return namespace


KERNEL = '''

@triton.jit
def _locate(_first, _count, _most, _lane, _tensors, _offsets, _lengths, _loose, _positions, GATHERED: tl.constexpr):
    """(tensor, place in it) of every number of the tile: the segments of its groups, one after the other."""
    _place = 0 * _first + 0 * _lane
    _tensor = _place
    _done = 0 * _first
    for _s in range(_most):
        _live = _s < _count
        _number = tl.load(_tensors + _first + _s, mask=_live, other=0)
        _offset = tl.load(_offsets + _first + _s, mask=_live, other=0)
        _length = tl.load(_lengths + _first + _s, mask=_live, other=0)
        _inside = _live & (_lane >= _done) & (_lane < _done + _length)
        _spot = _lane - _done + _offset
        if GATHERED:
            _far = _inside & (tl.load(_loose + _first + _s, mask=_live, other=0) != 0)
            _spot = tl.where(_far, tl.load(_positions + _spot, mask=_far, other=0), _spot)
        _place = tl.where(_inside, _spot, _place)
        _tensor = tl.where(_inside, _number, _tensor)
        _done += _length
    return _tensor, _place


@triton.jit
def _at(_addresses, _row, _tensor, _place, _mask, TYPE: tl.constexpr, BYTES: tl.constexpr):
    """(pointers, is there such a tensor?) for one row of the table of addresses."""
    _base = tl.load(_addresses + _row + _tensor, mask=_mask, other=0)
    return (_base + _place.to(tl.int64) * BYTES).to(tl.pointer_type(TYPE)), _mask & (_base != 0)


@triton.jit
def _one_less_exp(_x):
    """1 - exp(x), x <= 0, without the difference of two near ones."""
    _near = 1.0 + _x / 2 * (1.0 + _x / 3 * (1.0 + _x / 4 * (1.0 + _x / 5 * (1.0 + _x / 6 * (1.0 + _x / 7)))))
    return tl.where(_x > -0.05, -_x * _near, 1.0 - tl.exp(_x))


@triton.jit
def _updated(
    _w, _tensor, _place, _mask, _addresses, _tensor_count, _rules, _rates, _rate_of,
    KIND: tl.constexpr, REAL: tl.constexpr, BYTES: tl.constexpr, HALF: tl.constexpr,
):
    """The weights after the optimizer's own update (1: SGD, 2: AdamW), its state written; as they are without a gradient."""
    if HALF is None:
        _p, _has = _at(_addresses, _tensor_count, _tensor, _place, _mask, REAL, BYTES)
        _g = tl.load(_p, mask=_has, other=0.0)
    else:  # a low-precision tensor is one that has a copy in that precision to be written
        _q, _low = _at(_addresses, 5 * _tensor_count, _tensor, _place, _mask, HALF, 2)
        _p, _has = _at(_addresses, _tensor_count, _tensor, _place, _mask, REAL, BYTES)
        _q, _any_gradient = _at(_addresses, _tensor_count, _tensor, _place, _mask, HALF, 2)
        _g = tl.load(_p, mask=_has & (_low == 0), other=0.0) + tl.load(_q, mask=_has & _low, other=0.0).to(REAL)
    _rule = _rules + _tensor * 8
    _rate = tl.load(_rates + tl.load(_rate_of + _tensor, mask=_has, other=0), mask=_has, other=0.0).to(REAL)
    _decay = tl.load(_rule, mask=_has, other=0.0)
    _m_at, _has_first = _at(_addresses, 2 * _tensor_count, _tensor, _place, _has, REAL, BYTES)
    _m = tl.load(_m_at, mask=_has_first, other=0.0)
    if KIND == 1:
        _momentum = tl.load(_rule + 1, mask=_has, other=0.0)
        _nesterov = tl.load(_rule + 2, mask=_has, other=0.0)
        _d = _g + _decay * _w
        _b = _momentum * _m + _d
        tl.store(_m_at, _b, mask=_has_first)
        _x = _w - _rate * tl.where(_nesterov != 0, _d + _momentum * _b, _b)
    else:
        _new = tl.load(_rule + 1, mask=_has, other=0.0)
        _old = tl.load(_rule + 2, mask=_has, other=0.0)
        _fresh = tl.load(_rule + 3, mask=_has, other=0.0)
        _tiny = tl.load(_rule + 4, mask=_has, other=1.0)
        _v_at, _has_second = _at(_addresses, 3 * _tensor_count, _tensor, _place, _has, REAL, BYTES)
        _v = tl.load(_v_at, mask=_has_second, other=0.0)
        _t_at, _has_step = _at(_addresses, 4 * _tensor_count, _tensor, 0 * _place, _has, tl.float32, 4)
        _t = tl.load(_t_at, mask=_has_step, other=1.0).to(REAL)
        _b = _m + _new * (_g - _m)
        _v = _v * _old + _fresh * _g * _g
        tl.store(_m_at, _b, mask=_has_first)
        tl.store(_v_at, _v, mask=_has_second)
        _first_share = _one_less_exp(_t * tl.load(_rule + 5, mask=_has, other=-1.0))
        _second_share = _one_less_exp(_t * tl.load(_rule + 6, mask=_has, other=-1.0))
        _x = _w * (1.0 - _rate * _decay)
        _x = _x - _rate / _first_share * (_b / (tl.sqrt(_v) / tl.sqrt(_second_share) + _tiny))
    return tl.where(_has, _x, _w)


@triton.jit
def _rounded(_x, TYPE: tl.constexpr):
    """To TYPE; bfloat16 to the nearest, ties to even, in integers: Triton's interpreter would cut off."""
    if TYPE == tl.bfloat16:
        _bits = _x.to(tl.int32, bitcast=True)
        _bits = (_bits + 32767 + ((_bits >> 16) & 1)) & -65536
        _x = tl.where(_x == _x, _bits.to(tl.float32, bitcast=True), _x)
    return _x.to(TYPE)


@triton.jit
def _put(_x, _w_at, _tensor, _place, _mask, _addresses, _tensor_count, WEIGHT: tl.constexpr, HALF: tl.constexpr):
    """Write the weights, and where the tensor has a copy in low precision, that one too."""
    tl.store(_w_at, _rounded(_x, WEIGHT), mask=_mask)
    if HALF is not None:
        _q, _low = _at(_addresses, 5 * _tensor_count, _tensor, _place, _mask, HALF, 2)
        tl.store(_q, _rounded(_x, HALF), mask=_low)


@triton.jit
def _tell(_found, _unit, _mask, _y, _worth, _left, _largest_left):
    """Write what was found: y, r, F(y), is the whole group zero?"""
    tl.store(_found + 4 * _unit, _y, mask=_mask)
    tl.store(_found + 4 * _unit + 1, _worth, mask=_mask)
    tl.store(_found + 4 * _unit + 2, _left, mask=_mask)
    tl.store(_found + 4 * _unit + 3, tl.where(_largest_left == 0, 1.0, 0.0), mask=_mask)


@triton.jit
def _small_groups(
    _start, _stop, _order, _sizes, _firsts, _layers, _tensors, _offsets, _lengths, _loose, _positions, _addresses,
    _tensor_count, _theta, _weights, _rates, _rate_of, _rules, _begins, _found, ROWS: tl.constexpr, WIDTH: tl.constexpr,
    KIND: tl.constexpr, REAL: tl.constexpr, WEIGHT: tl.constexpr, BYTES: tl.constexpr, HALF: tl.constexpr,
    GATHERED: tl.constexpr, REPORT: tl.constexpr, WARM: tl.constexpr,
):
    _index = _start + tl.arange(0, ROWS)[:, None]
    _have = _index < _stop
    _lane = tl.arange(0, WIDTH)[None, :]
    _unit = tl.load(_order + _index, mask=_have, other=0)
    _size = tl.load(_sizes + _unit, mask=_have, other=0)
    _first = tl.load(_firsts + _unit, mask=_have, other=0)
    _count = tl.load(_firsts + _unit + 1, mask=_have, other=0) - _first
    _tensor, _place = _locate(
        _first, _count, tl.max(_count), _lane, _tensors, _offsets, _lengths, _loose, _positions, GATHERED
    )
    _w_at, _mask = _at(_addresses, 0, _tensor, _place, _lane < _size, WEIGHT, BYTES)
    _v = tl.load(_w_at, mask=_mask, other=0.0).to(REAL)
    if KIND > 0:
        _v = _updated(_v, _tensor, _place, _mask, _addresses, _tensor_count, _rules, _rates, _rate_of, KIND, REAL, BYTES, HALF)
    _layer = tl.load(_layers + _unit, mask=_have, other=0)
    _step = tl.load(_weights + _unit, mask=_have, other=0.0)
    _scale = tl.load(_rates + tl.load(_rate_of + _tensor_count + _layer, mask=_have, other=0), mask=_have, other=0.0)
    _step = tl.where(_step == 0, 0.0, _step * _scale).to(REAL)
$loads
    _alive = _have & ((_step == 0) == 0)
    _gone = _step == INFINITY
    _proper = (_step > 0) & (_gone == 0)
    _begin_at = 0.0 * _step
    if WARM:
        _begin_at = tl.load(_begins + _unit, mask=_have, other=0.0).to(REAL)
        _begin_at = tl.where((_begin_at > 0) & (_begin_at <= 1), _begin_at, 0.0)
    _begin_at = tl.where(_begin_at == _begin_at, _begin_at, 0.0)
    _w, _y, _worth, _left = _solve(tl.where(_proper, _v, 0.0), _lane, tl.where(_proper, _step, 1.0), _begin_at, REPORT$params)
    _w = tl.where(_proper, _w, tl.where(_gone, 0.0, _v + float("nan")))  # a step that is negative or no number is loud
    _x = tl.where(_alive, _w, _v)
    _tensor, _place = _locate(  # anew: kept over the search, the places would fill the registers
        _first, _count, tl.max(_count), _lane, _tensors, _offsets, _lengths, _loose, _positions, GATHERED
    )
    _w_at, _mask = _at(_addresses, 0, _tensor, _place, _lane < _size, WEIGHT, BYTES)
    if KIND == 0:
        _mask = _mask & _alive
    _put(_x, _w_at, _tensor, _place, _mask, _addresses, _tensor_count, WEIGHT, HALF)
    if REPORT:
        _nonzero = _largest(tl.where(_mask & ((_x == 0) == 0), 1, 0))
        _y = tl.where(_proper, _y, 0.0)
        _tell(_found, _unit, _alive, _y, tl.where(_proper, _worth, 0.0), tl.where(_proper, _left, 0.0), _nonzero)


$large


@triton.jit
def sweep(
    _classes, _starts, _stops, _order, _sizes, _firsts, _layers, _tensors, _offsets, _lengths, _loose, _positions, _addresses,
    _tensor_count, _theta, _weights, _rates, _rate_of, _rules, _begins, _found,
    CLASSES: tl.constexpr, TILE: tl.constexpr, SPREAD: tl.constexpr, KIND: tl.constexpr, REAL: tl.constexpr, WEIGHT: tl.constexpr,
    BYTES: tl.constexpr, HALF: tl.constexpr, GATHERED: tl.constexpr, REPORT: tl.constexpr, WARM: tl.constexpr,
):
    """A program is one tile; CLASSES has a bit for each width 2^k of tiles that the network has, bit 31 for large groups."""
    _class = tl.load(_classes + tl.program_id(0))
    _start = tl.load(_starts + tl.program_id(0))
    _stop = tl.load(_stops + tl.program_id(0))
    for K in tl.static_range(0, 16):
        if (CLASSES >> K) & 1:
            if _class == K:
                _small_groups(
                    _start, _stop, _order, _sizes, _firsts, _layers, _tensors, _offsets, _lengths, _loose, _positions,
                    _addresses, _tensor_count, _theta, _weights, _rates, _rate_of, _rules, _begins, _found,
                    (SPREAD >> K) if (SPREAD >> K) > 0 else 1, 1 << K,
                    KIND, REAL, WEIGHT, BYTES, HALF, GATHERED, REPORT, WARM,
                )
    if (CLASSES >> 31) & 1:
        if _class == 31:
            _large_group(
                _start, _order, _sizes, _firsts, _layers, _tensors, _offsets, _lengths, _loose, _positions,
                _addresses, _tensor_count, _theta, _weights, _rates, _rate_of, _rules, _begins, _found, TILE,
                KIND, REAL, WEIGHT, BYTES, HALF, GATHERED, REPORT, WARM,
            )
'''
