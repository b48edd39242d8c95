"""The part of a derived Triton module that finds the weights of a radial cost in a box; see `radial_box.py`."""

JOINED_TRITON_TERMS = '''@triton.jit
def _clipped(_a, _q, _bound):
    """The group s = min(a / q, bound), rho = |s|_2, and the share of rho^2 of the weights at and below the box."""
    _s = tl.where(_a > 0, _a / _q, 0.0)
    _s = tl.where(_s < _bound, _s, _bound)
    _peak = _largest(_s)
    _peak = tl.where(_peak > 0, _peak, 1.0)
    _unit = _s / _peak
    _rho = _peak * tl.sqrt(_total(_unit * _unit))
    _share = _s / tl.where(_rho > 0, _rho, 1.0)
    _cut = tl.where(_s < _bound, 0.0, _share * _share)
    return _s, _rho, _cut, _share * _share - _cut


@triton.jit
def _surplus(_a, _q, _y, _step, _bound$params):
    """(q rho - y rho - step phi'(rho)) / rho, and the derivative of that product divided by rho."""
    _s, _rho, _cut, _free = _clipped(_a, _q, _bound)
    _safe = tl.where(_rho > 0, _rho, 1.0)
    _excess = tl.where(_rho > 0, _q - _y - _step * (_slope(_safe$params) / _safe), _q)
    return _excess, _total(_cut) + _total(_free) * ((_y + _step * _curvature(_safe$params)) / _q)


@triton.jit
def _terms(_a, _y, _step, _bound$params):
    """s_k(y), the weights' shares of h*((a - y s) / step), and of minus its derivative in y.

    s = min(a / q, bound), q rho = y rho + step phi'(rho): the left side grows with q and the right side falls, so the bracket
    low <= q <= high holds the one root from its first turn to its last.
    """
    _eps = 2.220446049250313e-16 if _a.dtype == tl.float64 else 1.1920929e-07
    _none, _widest, _cut, _free = _clipped(_a, 0.0 * _step, _bound)
    _active = tl.sqrt(_total(_a * _a)) > _step * ($floor)
    _wide = tl.where(_widest > 0, _widest, 1.0)
    _push = _y * _wide + _step * _slope(_wide$params)
    _seek = _active & (_push > 0)  # else the whole group at the box costs no slope: q = 0
    _high = _push / _wide
    _high = tl.where((_high > 0) & (_high < INFINITY), _high, 1.0)
    _low = 0.0 * _high
    _turn = 0
    _excess, _bend = _surplus(_a, _high, _y, _step, _bound$params)
    _short = _seek & ((_excess >= 0) == 0)
    while _any(_short) & (_turn < 128):
        _low = tl.where(_short, _high, _low)
        _high = tl.where(_short, 2 * _high, _high)
        _excess, _bend = _surplus(_a, _high, _y, _step, _bound$params)
        _short = _seek & ((_excess >= 0) == 0)
        _turn += 1
    _q = _high
    _busy = _seek
    _turn = 0
    while _any(_busy) & (_turn < 80):
        _below = (_excess >= 0) == 0
        _low = tl.where(_busy & _below, _q, _low)
        _high = tl.where(_busy & (_below == 0), _q, _high)
        _new = _q - _excess / _bend
        _good = (_new >= _low) & (_new <= _high) & (_new > 0) & (_turn < 40)
        _half = tl.where(_low > 0, tl.sqrt(_low) * tl.sqrt(_high), _high * 0.0625)
        _new = tl.where(_good, _new, _half)
        _rough = (tl.abs(_excess) <= _eps * _q) == 0
        _moved = tl.abs(_new - _q) > _eps * _q
        _q = tl.where(_busy & _rough, _new, _q)
        _busy = _busy & _rough & _moved
        _excess, _bend = _surplus(_a, _q, _y, _step, _bound$params)
        _turn += 1
    _q = tl.where(_push > 0, _q, 0.0)
    _s, _rho, _cut, _free = _clipped(_a, _q, _bound)
    _over = _a - _bound * _q
    _safe = tl.where(_rho > 0, _rho, 1.0)
    _h = (_cut + _free) * _legendre(_safe$params) + _bound * (tl.where(_over > 0, _over, 0.0) / _step)
    _curve = _curvature(_safe$params) + 0.0 * _safe
    _held = _total(_cut)
    _loose = _total(_free)
    _f = _s * _s * ((_curve * _loose + _q * _held / _step) / (_q * _held + (_y + _step * _curve) * _loose))
    _f = tl.where(_s > 0, _f, 0.0)
    return tl.where(_active, _s, 0.0), tl.where(_active, _h, 0.0), tl.where(_active, _f, 0.0)'''
