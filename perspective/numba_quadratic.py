"""The fast path of a derived numba module: phi(s) = a s^2 + b s in a symmetric box (or in none); $fields from the derivation.

With u_k = max(|v_k| - step b, 0) and q = y + 2 a step the weights are s_k = min(u_k / q, M), and with C = {k: u_k > M q}
    F(y) = price - (a/q^2) sum_{not C} u_k^2 - sum_C (M (u_k - y M)/step - a M^2).
Without the box F has the root y0 = |u|_2 sqrt(a/price) - 2 a step. A held number counts for no less in the box than it would
without, as long as u_k / (M q) - 1 <= y / (a step): then the box's root is not below y0, and where y0 >= 1 it is one. So one pass
(|u|_2) answers these groups, and those whose length cannot reach the box. The largest u alone bounds the root from below, too,
by u/M - (price/M^2 + a) step, where price > a M^2; the search starts at the higher of these bounds, and each pass says
which numbers the box holds: F with these held is solved by a few divisions, without looking at the group again.
"""

QUADRATIC_TERMS = '''@sums
def _square_of(_x, _less):
    """sum_k max(|x_k| - less, 0)^2: sums of squares only, so that their order is free; not-a-number stays."""
    _total = 0.0
    for _k in range(len(_x)):
        _u = abs(numpy.float64(_x[_k])) - _less
        _u = 0.0 if _u < 0 else _u
        _total += _u * _u
    return _total


@loops
def _from_bits(_bits):
    return numpy.int64(_bits).view(numpy.float64)


@loops
def _largest(_x):
    """max_k |x_k|: of the bit patterns, which order nonnegative numbers as the numbers do."""
    _top = numpy.int64(0)
    for _k in range(len(_x)):
        _top = max(_top, numpy.float64(abs(_x[_k])).view(numpy.int64))
    return _from_bits(_top)


@sums
def _split(_x, _less, _edge):
    """sum of u_k^2 up to the edge, sum and number of the u_k beyond it."""
    _free, _held, _count = 0.0, 0.0, 0.0
    for _k in range(len(_x)):
        _u = abs(numpy.float64(_x[_k])) - _less
        _u = 0.0 if _u < 0 else _u
        _cut = _u > _edge
        _free += 0.0 if _cut else _u * _u
        _held += _u if _cut else 0.0
        _count += 1.0 if _cut else 0.0
    return _free, _held, _count


@loops
def _shrink(_x, _less, _factor, _most):
    """sign(v) min(max(|v| - less, 0) factor, most), in place."""
    for _k in range(len(_x)):
        _v = numpy.float64(_x[_k])
$shrink


@sums
def _paid(_x, _share$params):
    """sum_k y phi(w_k / y) of the weights x."""
    _total = 0.0
    for _k in range(len(_x)):
        _total += _share * _cost(abs(numpy.float64(_x[_k])) / _share$params)
    return _total


@loops
def _stay(_q, _square, _flat, _rise):
    """The q > 0 with flat = square / q^2 - rise q: F's root while the same numbers are held. Newton, from where q was."""
    for _turn in range(8):
        _part = _square / (_q * _q)
        _move = (_part - _rise * _q - _flat) / (2.0 * _part / _q + _rise)
        _q += _move
        if abs(_move) <= 1e-15 * _q or not _q > 0:
            break
    return _q


@loops
def _boxed(_x, _less, _step, _y, _top, _slack, _tolerance, _worth, _ready):
    """(y, what is left of F(y), was F(0) >= 0) of a group that the box may hold: the search begins at y.

    top is the root without the box, slack what F leaves there. F is concave: F(y) - y F'(y) < 0 shows F(0) < 0.
    A step's error is about the square of the last one's: after a move below sqrt(tolerance) / 10 nobody looks but for a report.
    """
    _bend, _a, _reach, _price, _bound, _full, _rate = _ready
    _low, _high, _above, _left = 0.0, 1.0, False, 0.0
    _rough = (_tolerance + EPSILON * numpy.sqrt(len(_x))) * _price
    for _turn in range(200):
        _q = _y + _bend
        _free, _held, _count = _split(_x, _less, _bound * _q)
        if _turn == 0 and _count == 0 and _y <= _top:
            return _top, _slack, False
        _part, _rise = _a * _free / (_q * _q), _bound * _rate * _count
        _h = _part + _rate * (_held - _y * _bound * _count) - _a * _bound * _bound * _count
        _f = 2.0 * _part / _q + _rise
        _left = _price - _h
        if (_y == 0 and _left >= 0) or (_y == 1 and _left <= 0):
            break
        if _left < 0:
            _low = _y
        else:
            _high = _y
        _above = _above or _left < 0 or _y * _f - _left > _rough
        if abs(_left) <= _rough and _y > 0 and _above:
            break
        _new = _y - _left / _f
        if _left < 0 and _new >= 1 and not _worth:
            return 1.0, 0.0, False  # F is concave: Newton from below stays below
        if len(_x) > 512 and _turn < 20:  # a look at these costs more than the divisions
            _jump = _stay(_q, _a * _free, _left + _part - _rise * _q, _rise) - _bend
            _new = _jump if _low <= _jump <= _high else _new
        if _above and _low < _new < _high and 100.0 * (_new - _y) ** 2 <= _tolerance * _y * _y:
            if _worth:
                _q = _new + _bend
                _free, _held, _count = _split(_x, _less, _bound * _q)
                _h = _a * _free / (_q * _q) + _rate * (_held - _new * _bound * _count) - _a * _bound * _bound * _count
            return _new, _price - _h if _worth else 0.0, False
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
    return _y, _left, _y == 0 and _left >= 0


@loops
def _prepare(_step, _theta):
    """What all groups of one step share: 2 a step, a, sqrt(a / price), price, bound, a / (1 + 2 a step)^2, bound / step."""
$unpack
    _price, _a, _bend, _bound = $price, 0.5 * ($bend), _step * ($bend), $upper
    return _bend, _a, numpy.sqrt(_a / _price), _price, _bound, _a / (1.0 + _bend) ** 2, _bound / _step


'''

SHRINK = """        _w = _v * _factor
        _w = _most if _w > _most else _w
        _x[_k] = (-_most if _w < -_most else _w) + 0.0"""

SOFT_SHRINK = """        _u = abs(_v) - _less
        _u = (0.0 if _u < 0 else _u) * _factor
        _u = _most if _u > _most else _u
        _x[_k] = math.copysign(_u, _v) + 0.0"""

QUADRATIC_GROUP = """    _bend, _a, _reach, _price, _bound, _full, _rate = _ready
    _less = $less
    _square = $square
    if 1e-280 < _square < 1e300:
        _norm = numpy.sqrt(_square)
        _y = _norm * _reach - _bend
        if _y <= 0:
            _x[:] = 0.0
            _out[0], _out[1], _out[2], _out[3] = 0.0, 0.0, _price - _a * _square / (_bend * _bend), 1.0
            return
        _left = _price - _full * _square if _y >= 1 else 0.0
        _y = min(_y, 1.0)
        _sure = _y == 1 and _norm <= _bound * (1.0 + _bend) * (1.0 + 2.0 / _bend)
        if not _sure and _norm > _bound * (_y + _bend):
            _peak = _largest(_x) - _less
            _alone = (_peak - (_price / _bound + _a * _bound) * _step) / _bound if _price > _a * _bound * _bound else 0.0
            _sure = _alone >= 1
            if not _sure and _peak > _bound * (_y + _bend):
                _begin = max(_y, _alone)
                if len(_x) > 32:  # the root if the largest is all that the box holds
                    _flat = _price - _rate * (_peak + _bend * _bound) + _a * _bound * _bound
                    _next = _stay(_begin + _bend, _a * (_square - _peak * _peak), _flat, _rate * _bound) - _bend
                    _begin = min(_next, 1.0) if _next > _begin else _begin
                _begin = _start if 0 < _start < 1 else _begin
                _y, _left, _gone = _boxed(_x, _less, _step, _begin, _y, _left, _tolerance, _worth, _ready)
                if _gone:
                    _x[:] = 0.0
                    _out[0], _out[1], _out[2], _out[3] = 0.0, 0.0, _left, 1.0
                    return
        if _sure:
            _y = 1.0
            if _worth and _norm > _bound * (1.0 + _bend):
                _free, _held, _count = _split(_x, _less, _bound * (1.0 + _bend))
                _left = _price - _full * _free - _rate * (_held - _bound * _count) + _a * _bound * _bound * _count
        _shrink(_x, _less, _y / (_y + _bend), _bound * _y)
        _out[0], _out[2], _out[3] = _y, _left, 0.0
        _out[1] = _paid(_x, _y$params) + _y * _price if _worth else 0.0
        return
"""
