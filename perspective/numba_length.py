"""The parts of a derived numba module that work on a group's length: a ball for a box, and |x|_2 itself."""

BALL = """    _norm = _length(_x)
    _m = _out[:1]  # the group of one number, its length
    _m[0] = _norm"""

BALL_BACK = """    _ends = 0.0
    for _k in range(len(_x)):
        _ends += 1.0 if abs(_x[_k]) == math.inf else 0.0
    for _k in range(len(_x)):  # infinite entries share the length; the finite ones beside them have no part in it
        _v = numpy.float64(_x[_k])
        if _ends > 0:
            _unit = math.copysign(1.0 / numpy.sqrt(_ends), _v) if abs(_v) == math.inf else 0.0
        else:
            _unit = _v / _norm if _norm > 0 else 0.0
        _x[_k] = _unit * _m[0] + 0.0 if _unit != 0 and _m[0] != 0 else 0.0"""

LENGTH = '''@sums
def _square(_x, _scale):
    _total = 0.0
    for _k in range(len(_x)):
        _v = numpy.float64(_x[_k]) * _scale
        _total += _v * _v
    return _total


@loops
def _length(_x):
    """|x|_2; scaled where plain squares underflow or overflow."""
    _total = _square(_x, 1.0)
    if 1e-280 < _total < 1e300:
        return numpy.sqrt(_total)
    _top = 0.0
    for _k in range(len(_x)):
        _top = max(_top, abs(numpy.float64(_x[_k])))
    if _top == 0 or _top == math.inf:
        return _top
    _scale = 2.0 ** -math.floor(math.log2(_top))
    return numpy.sqrt(_square(_x, _scale)) / _scale


'''
