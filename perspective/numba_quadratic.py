"""The fast path of a derived numba module: phi(s) = a s^2 + b s in a symmetric box (or in none); $fields from the derivation.

With u_k = max(|v_k| - step b, 0) and q = y + 2 a step the weights are s_k = min(u_k / q, M), and with C = {k: u_k > M q}
    F(y) = price - (a/q^2) sum_{not C} u_k^2 - sum_C (M (u_k - y M)/step - a M^2).
Without the box F has the root y = |u|_2 sqrt(a/price) - 2 a step. It is not below the box's root: the box takes conjugates away.
So one pass (|u|_2 and max u) answers every group in which that y cuts nothing; elsewhere Newton starts there.
"""

QUADRATIC_TERMS = '''@njit(error_model="numpy", fastmath={"reassoc"})
def _square_of(_x, _less):
    """sum_k max(|x_k| - less, 0)^2: sums of squares only, so that their order is free; not-a-number stays."""
    _total = 0.0
    for _k in range(len(_x)):
        _u = abs(_x[_k]) - _less
        _u = 0.0 if _u < 0 else _u
        _total += _u * _u
    return _total


@njit(error_model="numpy")
def _from_bits(_bits):
    return numpy.int64(_bits).view(numpy.float64)


@njit(error_model="numpy")
def _largest(_x):
    """max_k |x_k|: of the bit patterns, which order nonnegative numbers as the numbers do."""
    _bits = _x.view(numpy.int64)
    _top = numpy.int64(0)
    for _k in range(len(_bits)):
        _top = max(_top, _bits[_k] & 0x7FFFFFFFFFFFFFFF)
    return _from_bits(_top)


@njit(error_model="numpy", fastmath={"reassoc"})
def _split(_x, _less, _edge):
    """sum of u_k^2 up to the edge, sum and number of the u_k beyond it."""
    _free, _held, _count = 0.0, 0.0, 0.0
    for _k in range(len(_x)):
        _u = abs(_x[_k]) - _less
        _u = 0.0 if _u < 0 else _u
        _cut = _u > _edge
        _free += 0.0 if _cut else _u * _u
        _held += _u if _cut else 0.0
        _count += 1.0 if _cut else 0.0
    return _free, _held, _count


@njit(error_model="numpy")
def _shrink(_x, _less, _factor, _most):
    """sign(v) min(max(|v| - less, 0) factor, most), in place."""
    for _k in range(len(_x)):
        _u = (abs(_x[_k]) - _less) * _factor
        _u = 0.0 if _u < 0 else _u
        _u = _most if _u > _most else _u
        _x[_k] = math.copysign(_u, _x[_k]) + 0.0


@njit(error_model="numpy", fastmath={"reassoc"})
def _paid(_x, _share$params):
    """sum_k y phi(w_k / y) of the weights x."""
    _total = 0.0
    for _k in range(len(_x)):
        _total += _share * _cost(abs(_x[_k]) / _share$params)
    return _total


'''

QUADRATIC_GROUP = """    _bound, _price = $upper, $price
    _less, _a = _step * ($floor), 0.5 * ($bend)
    _bend = _step * ($bend)
    _square = _square_of(_x, _less)
    if 1e-280 < _square < 1e300:
        _top = _largest(_x) - _less
        _y = math.sqrt(_square) * math.sqrt(_a / _price) - _bend
        _left = 0.0
        if _y <= 0:
            _x[:] = 0.0
            _out[0], _out[1], _out[2], _out[3] = 0.0, 0.0, _price - _a * _square / _bend**2, 1.0
            return
        _left = _price - _a * _square / (1 + _bend) ** 2 if _y >= 1 else 0.0
        _y = min(_y, 1.0)
        if _top > _bound * (_y + _bend):
            if 0 < _start < _y:
                _y = _start
            _low, _high, _above, _full = 0.0, 1.0, False, False
            _rough = (_tolerance + EPSILON * math.sqrt(len(_x))) * _price
            for _turn in range(200):
                _q = _y + _bend
                _free, _held, _count = _split(_x, _less, _bound * _q)
                _h = _a * _free / _q**2 + _bound * (_held - _y * _bound * _count) / _step - _a * _bound**2 * _count
                _f = 2.0 * _a * _free / _q**3 + _bound**2 * _count / _step
                _left = _price - _h
                if (_y == 0 and _left >= 0) or (_y == 1 and _left <= 0):
                    break
                if _left < 0:
                    _low, _above = _y, True
                else:
                    _high = _y
                if abs(_left) <= _rough and _y > 0 and _above:
                    break
                _new = _y - _left / _f
                if not _above and (not _new > 0 or abs(_left) <= _rough):
                    _new = 0.0
                elif _high == 1 and not _new < 1:
                    _new = 1.0
                elif not (_low <= _new <= _high and _turn < 60):
                    _new = (_low + _high) / 2 if 0 < _low and _turn < 120 else _middle(_low, _high)
                _moved = abs(_new - _y)
                if _moved <= 2 * EPSILON * _y:
                    break
                _y = _new
            if _y == 0 and _left >= 0:
                _x[:] = 0.0
                _out[0], _out[1], _out[2], _out[3] = 0.0, 0.0, _left, 1.0
                return
        _shrink(_x, _less, _y / (_y + _bend), _bound * _y)
        _out[0], _out[2], _out[3] = _y, _left, 0.0
        _out[1] = _paid(_x, _y$params) + _y * _price if _worth else 0.0
        return
"""
