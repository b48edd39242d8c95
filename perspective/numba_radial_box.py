"""The part of a derived numba module that finds the weights of a radial cost in a box; see `radial_box.py`."""

JOINED_NUMBA_TERMS = '''@sums
def _clipped(_x, _q, _bound):
    """Of s = min(a / q, bound): rho^2 of the weights below the box, of those at it, and sum max(a - bound q, 0)."""
    _free, _held, _beyond = 0.0, 0.0, 0.0
    for _k in range(len(_x)):
        _a = abs(numpy.float64(_x[_k]))
        _s = _a / _q if _a > 0 else 0.0
        _cut = _s >= _bound
        _free += 0.0 if _cut else _s * _s
        _held += _bound * _bound if _cut else 0.0
        _beyond += _a - _bound * _q if _cut else 0.0
    return _free, _held, _beyond


@loops
def _surplus(_x, _q, _y, _step, _bound$params):
    """(q rho - y rho - step phi'(rho)) / rho, and the derivative of that product divided by rho."""
    _free, _held, _beyond = _clipped(_x, _q, _bound)
    _square = _free + _held
    if not _square > 0:
        return _q, 1.0
    _rho = numpy.sqrt(_square)
    _excess = _q - _y - _step * (_slope(_rho$params) / _rho)
    return _excess, _held / _square + _free / _square * ((_y + _step * _curvature(_rho$params)) / _q)


@loops
def _ratio(_x, _y, _step, _bound$params):
    """The q with q rho = y rho + step phi'(rho), rho = |min(a / q, bound)|_2; -1 where the group has no slope to pay.

    The left side grows with q and the right side falls: low <= q <= high holds the one root from the first turn to the last.
    """
    if not _length(_x) > _step * ($floor):
        return -1.0
    _count = 0.0
    for _k in range(len(_x)):
        _count += 1.0 if _x[_k] != 0 else 0.0
    _wide = _bound * numpy.sqrt(_count)
    _push = _y * _wide + _step * _slope(_wide$params)
    if _push <= 0:
        return 0.0  # the whole group at the box costs no slope
    _q = _push / _wide
    if not 0 < _q < math.inf:
        _q = 1.0
    _low, _high = 0.0, math.inf
    for _turn in range(300):
        _excess, _bend = _surplus(_x, _q, _y, _step, _bound$params)
        if abs(_excess) <= 2 * EPSILON * _q:
            break
        if _excess >= 0:
            _high = _q
        else:
            _low = _q  # not-a-number, too: too large for phi, so below the root
        _new = _q - _excess / _bend
        if not (_low < _new < _high and _turn < 60):
            _new = _middle(_low, _high)
        _moved = abs(_new - _q)
        _q = _new
        if _moved <= 2 * EPSILON * _q:
            break
    return _q


@loops
def _guess_y(_x, _square, _step, _upper, _lower$params):
    return 0.0


@loops
def _evaluate(_x, _y, _step, _upper, _lower$params):
    """h*((a - y s) / step), h the cost in its box, and minus its derivative in y."""
    _q = _ratio(_x, _y, _step, _upper$params)
    if _q < 0:
        return 0.0, 0.0
    _free, _held, _beyond = _clipped(_x, _q, _upper)
    _square = _free + _held
    if not _square > 0:
        return 0.0, 0.0
    _rho = numpy.sqrt(_square)
    _bend, _in, _at = _curvature(_rho$params), _free / _square, _held / _square
    _f = _square * ((_bend * _in + _q * _at / _step) / (_q * _at + (_y + _step * _bend) * _in))
    return _legendre(_rho$params) + _upper * (_beyond / _step), _f


@loops
def _write(_x, _y, _step, _upper, _lower, _worth$params):
    """Put sign(v) y s_k(y) into x; the cost's part of r, y phi(|s|_2), where it is asked for."""
    _q = _ratio(_x, _y, _step, _upper$params)
    _square = 0.0
    for _k in range(len(_x)):
        _a = abs(numpy.float64(_x[_k]))
        _s = min(_a / _q, _upper) if _a > 0 and _q >= 0 else 0.0
        _square += _s * _s
        _w = min(_y * _s, _a)
        _x[_k] = (-_w if _x[_k] < 0 else _w) + 0.0
    return _y * _cost(numpy.sqrt(_square)$params) if _worth else 0.0


@loops
def _write_unpaid(_x, _step, _upper, _lower$params):
    """y = 0 in a box: nothing stays."""
    _x[:] = 0.0
    return 0.0, True'''
