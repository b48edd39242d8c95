"""Parts of a derived Triton module: where the search for y starts, and each number's own root; $fields from the derivation."""

BEGIN_ANYWHERE = """    return 0.0 * _total(_a), 0.0 * _total(_a), 0.0 * _total(_a)"""

KNOWN_ANYWHERE = """    return _start + 0.0 * _price, _step != _step, _price"""

BEGIN_POWER = """    return _total($power), 0.0 * _total(_a), 0.0 * _total(_a)"""

KNOWN_POWER = """    _norm = tl.exp(tl.log(_sum) * $inverse)
    _free = $stationary + 0.0 * _price  # the answer for a step of 0, near it for a small one
    _free = tl.where((_sum > 1e-30) & (_sum < 1e30) & (_free > 0), tl.where(_free < 1, _free, 1.0), 0.0)
    return tl.where(_start > 0, _start, _free), _step != _step, _price"""

BEGIN_QUADRATIC = """    _u = _a - _step * ($floor)
    _u = tl.where(_u > 0, _u, 0.0)
    return _total(_u * _u), _largest(_u), -_largest(-_bound)"""

KNOWN_QUADRATIC = """    _scale = 0.5 * ($bend)
    _bent = _step * ($bend)
    _free = tl.sqrt(_sum) * tl.sqrt(_scale / _price) - _bent  # the root of F without the box, which lies above the one with it
    _y = tl.where(_free > 0, tl.where(_free < 1, _free, 1.0), 0.0)
    _sure = (_sum > 1e-30) & (_sum < 1e30) & ((_free <= 0) | (_most <= _least * (_y + _bent)))
    _sure = _sure | ((_most > 0) == 0)
    _reach = _y + _bent
    _ends = _price - _scale * _sum / (_reach * _reach)
    _left = tl.where((_y > 0) & (_y < 1), 0.0, tl.where(_sum > 0, _ends, _price))
    return tl.where(_sure, _y, tl.where(_start > 0, _start, _y)), _sure, _left"""

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

NUMERIC_TRITON_ROOT = """    _eps = 2.220446049250313e-16 if _a.dtype == tl.float64 else 1.1920929e-07
    _active = _a > _step * ($floor)
    _runaway = (_a == INFINITY) | ((_y == 0) & (_a >= _step * ($steepest)))  # no finite root
    _low = 0.0 * _a
    _low = tl.where(_low == _low, _low, 0.0)
    _high = _low + INFINITY
    _s = $guess + _low
    _s = tl.where((_s > 0) & (_s < INFINITY), _s, 1.0)
    _busy = _active & (_runaway == 0)
    _turn = 0
    while _any(_busy) & (_turn < 200):
        _excess = _y * _s + _step * _slope(_s$params) - _a
        _rough = (tl.abs(_excess) <= 2 * _eps * _a) == 0
        _below = _excess < 0
        _low = tl.where(_busy & _below, _s, _low)
        _high = tl.where(_busy & (_below == 0), _s, _high)  # not-a-number, too: too large for phi
        _new = _s - _excess / (_y + _step * _curvature(_s$params))
        _good = (_new > _low) & (_new < _high) & (_turn < 60)
        _new = tl.where(_good, _new, _middle(_low, _high))
        _moved = tl.abs(_new - _s) > 2 * _eps * _s
        _s = tl.where(_busy & _rough, _new, _s)
        _busy = _busy & _rough & _moved
        _turn += 1
    return tl.where(_active, tl.where(_runaway, INFINITY, _s), 0.0)"""
