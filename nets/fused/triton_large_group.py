"""The part of the kernel that takes one group piece by piece, because no tile holds it; see triton_kernel.py."""

LARGE_GROUP = '''@triton.jit
def _large_group(
    _start, _order, _sizes, _firsts, _layers, _tensors, _offsets, _lengths, _loose, _positions, _addresses,
    _tensor_count, _theta, _weights, _rates, _rate_of, _rules, _begins, _found, WIDTH: tl.constexpr,
    KIND: tl.constexpr, REAL: tl.constexpr, WEIGHT: tl.constexpr, BYTES: tl.constexpr, HALF: tl.constexpr,
    GATHERED: tl.constexpr, REPORT: tl.constexpr, WARM: tl.constexpr,
):
    """One group, piece by piece: update and begin; every evaluation of F; the prox."""
    _unit = tl.load(_order + _start + tl.zeros((1, 1), tl.int32))
    _have = _unit >= 0
    _size = tl.load(_sizes + _unit)
    _first = tl.load(_firsts + _unit)
    _count = tl.load(_firsts + _unit + 1) - _first
    _most = tl.max(_count)
    _pieces = tl.cdiv(tl.max(_size), WIDTH)
    _layer = tl.load(_layers + _unit)
    _step = tl.load(_weights + _unit)
    _scale = tl.load(_rates + tl.load(_rate_of + _tensor_count + _layer))
    _step = tl.where(_step == 0, 0.0, _step * _scale).to(REAL)
$loads
    _alive = (_step == 0) == 0
    _gone = _step == INFINITY
    _proper = (_step > 0) & (_gone == 0)
    _tau = tl.where(_proper, _step, 1.0)
    _start_at = 0.0 * _tau
    if WARM:
        _start_at = tl.load(_begins + _unit).to(REAL)
        _start_at = tl.where((_start_at > 0) & (_start_at <= 1), _start_at, 0.0)
    _price = _price_of(_tau$params)
    _sum = 0.0 * _price
    _top = _sum
    _least = _sum + INFINITY
    _bad = _sum
    for _p in range(_pieces):
        _lane = _p * WIDTH + tl.arange(0, WIDTH)[None, :]
        _tensor, _place = _locate(_first, _count, _most, _lane, _tensors, _offsets, _lengths, _loose, _positions, GATHERED)
        _w_at, _mask = _at(_addresses, 0, _tensor, _place, _lane < _size, WEIGHT, BYTES)
        _v = tl.load(_w_at, mask=_mask, other=0.0).to(REAL)
        if KIND > 0:
            _v = _updated(
                _v, _tensor, _place, _mask, _addresses, _tensor_count, _rules, _rates, _rate_of, KIND, REAL, BYTES, HALF
            )
            tl.store(_w_at, _v.to(WEIGHT), mask=_mask)
        _bound = _box(_v, _tau$params)
        _a = tl.where((_bound > 0) & (_v == _v), tl.abs(_v), 0.0)
        _sum1, _top1, _least1 = _begin(_a, _tau, _bound$params)
        _sum += _sum1
        _top = tl.maximum(_top, _top1)
        _least = tl.minimum(_least, _least1)
        _bad = tl.maximum(_bad, _largest(tl.where(_v == _v, 0.0, 1.0)).to(REAL))
    tl.debug_barrier()  # what other threads wrote is read below
    _y, _sure, _left = _known(_sum, _top, _least, _start_at, _tau$params)
    _busy = (_sure == 0) & (_bad == 0) & _proper
    _low = 0.0 * _price
    _high = _low + 1.0
    _above = tl.where(_low < 0, 1, 0)
    _turn = 0
    while _any(_busy) & (_turn < 120):
        _h = 0.0 * _price
        _f = 0.0 * _price
        for _p in range(_pieces):
            _lane = _p * WIDTH + tl.arange(0, WIDTH)[None, :]
            _tensor, _place = _locate(_first, _count, _most, _lane, _tensors, _offsets, _lengths, _loose, _positions, GATHERED)
            _w_at, _mask = _at(_addresses, 0, _tensor, _place, _lane < _size, WEIGHT, BYTES)
            _v = tl.load(_w_at, mask=_mask, other=0.0).to(REAL)
            _bound = _box(_v, _tau$params)
            _h1, _f1 = _evaluate(tl.where(_bound > 0, tl.abs(_v), 0.0), _y, _tau, _bound$params)
            _h += _h1
            _f += _f1
        _left = _price - _h
        _y, _low, _high, _above, _done = _advance(_y, _low, _high, _above, _left, _f, _turn, _price)
        _busy = _busy & (_done == 0)
        _turn += 1
    _zero = (_y == 0) & (_left >= 0)
    _worth = 0.0 * _price
    _nonzero = 0 * _turn + tl.zeros((1, 1), tl.int32)
    for _p in range(_pieces):
        _lane = _p * WIDTH + tl.arange(0, WIDTH)[None, :]
        _tensor, _place = _locate(_first, _count, _most, _lane, _tensors, _offsets, _lengths, _loose, _positions, GATHERED)
        _w_at, _mask = _at(_addresses, 0, _tensor, _place, _lane < _size, WEIGHT, BYTES)
        _v = tl.load(_w_at, mask=_mask, other=0.0).to(REAL)
        _bound = _box(_v, _tau$params)
        _size1 = _shrink(tl.where(_bound > 0, tl.abs(_v), 0.0), _y, _zero, _tau, _bound$params)
        _w = tl.where(_v < 0, 0.0 - _size1, _size1) + 0.0
        _w = tl.where(_bad > 0, float("nan"), _w)
        _w = tl.where(_proper, _w, tl.where(_gone, 0.0, _v + float("nan")))
        _x = tl.where(_alive, _w, _v)
        if KIND == 0:
            _mask = _mask & _alive
        _put(_x, _w_at, _tensor, _place, _mask, _addresses, _tensor_count, WEIGHT, HALF)
        if REPORT:
            _worth += _paid(tl.where(_mask, _size1, 0.0), _y, _zero, _tau$params)
            _nonzero = tl.maximum(_nonzero, _largest(tl.where(_mask & ((_x == 0) == 0), 1, 0)))
    if REPORT:
        _none = tl.where(_bad > 0, float("nan"), 0.0)
        _worth = tl.where(_proper, _worth + _y * _price, 0.0) + _none
        _left = tl.where(_proper, _left, 0.0) + _none
        _tell(_found, _unit, _alive, tl.where(_proper, _y, 0.0) + _none, _worth, _left, _nonzero)'''
