"""The part of a derived numba module for costs that are a sum over the weights: one root, or one division, for each weight."""

SEPARATE_NUMBA_TERMS = '''@loops
def _root(_a, _y, _step$params):
    """The s >= 0 with y s + step phi'(s) = a, before the box cuts it."""
$root


@loops
def _pull(_s, _y, _step$params):
    """phi'' / (y + step phi'')."""
$pull


@loops
def _size(_a, _y, _step, _bound$params):
    """s_k(y), cut at the box."""
    _s = _root(_a, _y, _step$params)
    return _bound if _s > _bound else _s


@loops
def _terms(_a, _y, _step, _bound$params):
    """phi*((a - y s) / step), and minus its derivative in y."""
    _r = _root(_a, _y, _step$params)
    _s = _bound if _r > _bound else _r
    _inside = _legendre(_s$params) if _s < math.inf else $top
    _h = _bound * ((_a - _y * _bound) / _step) - _cost(_bound$params) if _r > _bound else (_inside if _s > 0 else 0.0)
    _f = _bound * _bound / _step if _r > _bound else (_s * (_s * _pull(_s, _y, _step$params)) if _s > 0 else 0.0)
    return _h, _f


@sums
def _evaluate(_x, _y, _step, _upper, _lower$params):
    """sum_k phi*((a_k - y s_k) / step) and minus its derivative; the only reordered operations are these two additions."""
    _h = 0.0
    _f = 0.0
    for _k in range(len(_x)):
        _v = numpy.float64(_x[_k])
        _bound = _lower if _v < 0 else _upper
        _dh, _df = _terms(abs(_v) if _bound > 0 else 0.0, _y, _step, _bound$params)
        _h += _dh
        _f += _df
    return _h, _f


@sums
def _squares(_x):
    _total = 0.0
    for _k in range(len(_x)):
        _v = numpy.float64(_x[_k])
        _total += _v * _v
    return _total


@loops
def _guess_y(_x, _square, _step, _upper, _lower$params):
    """Roughly the y of a group whose numbers all are as large as the root of this one's mean square; 0 where that is zero."""
    _n = numpy.float64(len(_x))
    if len(_x) < 8:
        return 0.0
    _a, _bound = numpy.sqrt((_square if _square >= 0 else _squares(_x)) / _n), max(_upper, _lower)
    if not 0 < _a < math.inf:
        return 0.0
    _price, _low, _high, _y = ($price) / _n, 0.0, 1.0, 1.0
    for _turn in range(16):
        _h, _f = _terms(_a, _y, _step, _bound$params)
        if _h >= _price:
            _low = _y
        else:
            _high = _y
        if _y == 1 and _low == 1:
            break
        _over = _h / _price
        _new = _y + (_h - _price) / _f * ($stretch)
        if not _low < _new < _high:
            _new = 0.5 * (_low + _high) if _low > 0 else 0.0625 * _high
        if abs(_new - _y) <= 0.01 * _y:
            return _new
        _y = _new
    return _y if _low > 0 else 0.0


@loops
def _write(_x, _y, _step, _upper, _lower, _worth$params):
    """Put sign(v) y s_k(y) into x; the cost's part of r, sum_k y phi(s_k), where it is asked for."""
    _total = 0.0
    for _k in range(len(_x)):
        _v = numpy.float64(_x[_k])
        _bound = _lower if _v < 0 else _upper
        _a = abs(_v) if _bound > 0 else 0.0
        _s = _size(_a, _y, _step, _bound$params)
        if _worth:
            _total += _y * _cost(_s$params)
        _w = min(_y * _s, _a)
        _x[_k] = (-_w if _v < 0 else _w) + 0.0
    return _total


@loops
def _write_unpaid(_x, _step, _upper, _lower$params):
    """y = 0: what is beyond the steepest slope stays where no box holds it; (the cost's part of r, is all zero?)."""
    _steep = $steepest
    _total, _zero = 0.0, True
    for _k in range(len(_x)):
        _v = numpy.float64(_x[_k])
        _beyond = abs(_v) - _step * _steep if (_lower if _v < 0 else _upper) == math.inf else 0.0
        if _beyond > 0:
            _x[_k] = -_beyond if _v < 0 else _beyond
            _total, _zero = _total + _steep * _beyond, False
        else:
            _x[_k] = 0.0
    return _total, _zero'''

NUMERIC_NUMBA_ROOT = """    if not _a > _step * ($floor):
        return 0.0
    if _a == math.inf or (_y == 0 and _a >= _step * ($steepest)):
        return math.inf  # no finite root
    _low, _high, _s = 0.0, math.inf, $guess
    if not 0 < _s < math.inf:
        _s = 1.0
    for _turn in range(400):
        _excess = _y * _s + _step * _slope(_s$params) - _a
        if abs(_excess) <= 2 * EPSILON * _a:
            break
        if _excess < 0:
            _low = _s
        else:
            _high = _s  # not-a-number, too: too large for phi
        _new = _s - _excess / (_y + _step * _curvature(_s$params))
        if not (_low < _new < _high and _turn < 60):
            _new = _middle(_low, _high)
        _moved = abs(_new - _s)
        _s = _new
        if _moved <= 2 * EPSILON * _s:
            break
    return _s"""
