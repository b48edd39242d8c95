"""The text of a derived module, with $fields for what the derivation fills in; `source.py` writes it.

One text serves numpy and torch, because both share the names it uses; what differs stands in `source_headers.py`.
a stands for magnitudes |v_k| (one column, the norm, where the cost is radial), theta for the parameters.
"""

NUMERIC_ROOT = """    active = a > step * _floor(theta)
    runaway = (a == xp.inf) | ((y == 0) & (a >= step * _steepest(theta)))  # no finite root
    low, high = xp.zeros_like(a + y), xp.ones_like(a + y)
    for turn in range(1100):  # double until the root is bracketed; if that takes long, from s <= a / y: y s + step phi'(s) = a
        short = active & ~runaway & ~(y * high + step * _slope(high, theta) >= a) & (high < xp.inf)  # nan: too large for phi
        if not bool(short.any()):
            break
        more = 2 * high
        if turn >= 8:
            most = xp.where(y > 0, a / y, xp.zeros_like(high))
            most = xp.where(most < xp.inf, most, xp.full_like(high, xp.finfo(high.dtype).max))
            more = xp.where(most > more, most, more)
        low, high = xp.where(short, high, low), xp.where(short, more, high)
    high = xp.where(runaway, xp.full_like(high, xp.inf), high)
    s = xp.where(active, high, xp.zeros_like(high))
    for turn in range(300):  # Newton, inside the bracket or else its middle: geometric when the bracket spans magnitudes
        excess = y * s + step * _slope(s, theta) - a
        low, high = xp.where(excess < 0, s, low), xp.where(excess < 0, high, s)
        low, high = xp.where(active, low, xp.zeros_like(low)), xp.where(active, high, xp.zeros_like(high))
        new = s - excess / (y + step * _curvature(s, theta))
        rough = active & (xp.abs(excess) > 2 * EPSILON(a) * a) & (high < xp.inf)  # else at the level of rounding
        good = (new >= low) & (new <= high) & (new > 0) & (turn < 60)  # at zero a curvature is infinite: Newton would stay
        if bool((rough & ~good).any()):
            new = xp.where(good, new, _middle(low, high))
        new = xp.where(rough, new, s)
        moved, s = xp.abs(new - s), new
        if not bool((moved > 2 * EPSILON(a) * s).any()):
            break
    return s"""

NUMERIC_STATIONARY = """    price = _price(theta)  # any y >= 1 is answered by 1: the caller cuts there
    low, y = xp.zeros_like(_max(a)), xp.ones_like(_max(a))
    high = y
    full = _sum(_legendre(a, theta)) >= price
    most = _sum(xp.where(a > 0, _legendre_top(theta) + xp.zeros_like(a), xp.zeros_like(a)))
    none = most <= price  # no y > 0 is small enough: the price is never paid
    for turn in range(400):
        scaled = a / y
        excess = price - _sum(xp.where(a > 0, _legendre(scaled, theta), xp.zeros_like(a)))
        bend = _sum(xp.where(a > 0, scaled * (scaled * _curvature(scaled, theta)), xp.zeros_like(a))) / y
        below = ~(excess >= 0)  # an overflow to nan counts as below the root
        low, high = xp.where(below, y, low), xp.where(below, high, y)
        new = y - excess / bend
        middle = _middle(low, high)
        new = xp.where((new >= low) & (new <= high) & (new > 0) & (bend < xp.inf) & (turn < 100), new, middle)
        new = xp.where(full | none | (xp.abs(excess) <= 4 * EPSILON(a) * price), y, new)
        moved, y = xp.abs(new - y), new
        if not bool((moved > 2 * EPSILON(a) * y).any()):
            break
    return xp.where(none, xp.zeros_like(y), y)"""

FAR_OUT = """    _answer, _large = $near, $s > 1e4
    if not bool(_large.any()):
        return _answer
    _q = 1 / xp.where(_large, $s, xp.ones_like($s))  # no power of s here, so no overflow
    return xp.where(_large, $far, _answer)"""

BODY = '''

def EPSILON(x):
    return xp.finfo(x.dtype).eps


def _cost($s, theta):
    """phi(s) for s >= 0."""
$cost


def _slope($s, theta):
    """phi'(s)."""
$slope


def _curvature($s, theta):
    """phi''(s)."""
$curvature


def _legendre($s, theta):
    """s phi'(s) - phi(s): the conjugate of phi at phi'(s)."""
$legendre


def _floor(theta):
    """phi'(0+): arguments of the conjugate below it give zero."""
$floor


def _price(theta):
$price


def _steepest(theta):
    """lim phi'(s) for s -> oo."""
$steepest


def _legendre_top(theta):
    """lim L(s) for s -> oo."""
$legendre_top


def _bounds(x, theta):
    """The box on the side of x's sign."""
$bounds


def _magnitude(x):
    return $magnitude


def _toward(x, a, size):
    """The vector of norm size in the direction of x, |x|_2 = a. Infinite entries share it equally; the finite ones beside
    them have no part in it."""
    ends = xp.where(xp.abs(x) == xp.inf, xp.sign(x), xp.zeros_like(x))
    count = _sum(xp.abs(ends))
    ends = ends / xp.sqrt(xp.where(count > 0, count, xp.ones_like(count)))
    unit = xp.where(a == xp.inf, ends, x / xp.where(a > 0, a, xp.ones_like(a)))
    return xp.where(unit == 0, xp.zeros_like(x), unit * size)


def _point(x, a, size):
    """Magnitudes with the signs, or the direction, of x."""
    return $point


def _acting(a, bound):
    """Magnitudes, zero where the box leaves no room on that side."""
    return $acting


def _lifted(a):
    """(a l, l): l > 1, a power of two, for rows so near denormals that y* would lose its digits; there r(a l) = l r(a)."""
    near = _max(a) < xp.finfo(a.dtype).tiny / EPSILON(a)
    lift = xp.where(near, xp.full_like(a[..., :1], 1 / EPSILON(a)), xp.ones_like(a[..., :1]))
    return a * lift, lift


def _radius(a):
    """What the cost is of: each weight's magnitude, or the group's norm."""
    return $radius


def _along(a):
    """The derivative of _radius in each magnitude."""
    return $along


def _middle(low, high):
    """The geometric middle of a bracket that may span magnitudes; above zero, a quick descent: a square below 1/16."""
    tiny = xp.finfo(high.dtype).tiny
    least = xp.where(high > tiny, xp.full_like(high, tiny), high / 16)
    fall = xp.where(high < 0.0625, xp.where(high * high > tiny, high * high, least), high / 16)
    return xp.where(low > 0, xp.sqrt(low) * xp.sqrt(high), fall)


def _norm(a, p):
    """(sum_k a_k^p)^(1/p), scaled so that nothing overflows or underflows."""
    top = _max(a)
    top = xp.where(top > 0, top, xp.zeros_like(top) + 1)
    return xp.where(top == xp.inf, top, top * _sum((a / top) ** p) ** (1 / p))


$terms

def _stationary(a, theta):
    """The y at which no bound binds, sum_k L(a_k / y) = price, for rows a != 0; 0 where none is; shape (..., 1)."""
$stationary


def _indicator(a, bound, theta):
    """y*, its lower bound from the box, and whether the row is all zero; shapes (..., 1)."""
    top = _max(a)
    zero = top == 0
    smallest = _max(xp.where((a > 0) & (bound < xp.inf), a / bound, xp.zeros_like(a)))
    a = xp.where(zero, xp.ones_like(a), a)
    stationary = _stationary(a, theta)
    y = xp.where(stationary > smallest, stationary, smallest)
    return xp.where(zero, xp.zeros_like(top), xp.where(y < 1, y, xp.ones_like(top))), smallest, zero


@quiet
def indicator(w$signature):
    """y*(w), shape (...,): the minimiser of the perspective over y in [0, 1]; 1 also outside the box."""
    theta = theta_like(w)
    a, lift = _lifted(_magnitude(w))
    y = _indicator(a, _bounds(w, theta), theta)[0]
    return xp.where(y < 1, y / lift, y)[..., 0]


@quiet
def value(w$signature):
    """r(w), shape (...,): sum_k y phi(w_k / y) + price y at y = y*(w); inf outside the box."""
    theta = theta_like(w)
    a, lift = _lifted(_magnitude(w))
    y, smallest, zero = _indicator(a, _bounds(w, theta), theta)
    radius, safe = _radius(a), xp.where(y == 0, xp.ones_like(y), y)
    scaled, limit = radius / safe, xp.where(radius > 0, _steepest(theta) * radius, xp.zeros_like(radius))
    inside = _sum(xp.where(scaled == xp.inf, limit, _cost(scaled, theta) * safe)) + _price(theta) * y
    inside = xp.where(y == 0, _sum(limit), inside) / lift
    inside = xp.where(zero, xp.zeros_like(y), inside)
    return xp.where(smallest > $edge, xp.full_like(y, xp.inf), inside)[..., 0]


@quiet
def conjugate(z$signature):
    """r*(z) = max(0, sum_k phi*(z_k) - price), shape (...,)."""
    theta = theta_like(z)
    bound = _bounds(z, theta)
    a = _acting(_magnitude(z), bound)
    terms = _conjugate_terms(a, xp.zeros_like(a), xp.ones_like(a), bound, theta)[1]
    surplus = _sum(terms) - _price(theta)
    return xp.where(surplus > 0, surplus, xp.zeros_like(surplus))[..., 0]


@quiet
def gradient(w$signature):
    """A subgradient of r, shape (..., n): zero at w = 0, undefined outside the box; ties for |w|_inf share equally."""
    theta = theta_like(w)
    (a, lift), bound = _lifted(_magnitude(w)), _bounds(w, theta)
    y, smallest, zero = _indicator(a, bound, theta)
    safe = xp.where(y == 0, xp.ones_like(y), y)
    scaled = _radius(a) / safe
    held = (smallest == y) & ~zero  # also on the edge of the box, where y = 1: the derivative from inside
    pull = _price(theta) - _sum(xp.where(scaled > 0, _legendre(scaled, theta), xp.zeros_like(scaled)))
    pull = xp.where(pull > 0, pull, xp.zeros_like(pull))
    largest = xp.where(held & (a > 0) & (a / bound == smallest), xp.ones_like(a), xp.zeros_like(a))
    ties = xp.where(held, _sum(largest), xp.ones_like(y))
    through_box = xp.where(largest > 0, pull / (bound * ties), xp.zeros_like(a))
    slope = xp.where(y == 0, _steepest(theta) + xp.zeros_like(scaled), _slope(scaled, theta)) * _along(a)
    return xp.where(zero, xp.zeros_like(w), _point(w * lift, a, slope + through_box))


def _rows(x, a, rows):
    """The chosen rows of a number, or of an array with one row for each row of a."""
    return x if x.ndim == 0 else xp.broadcast_to(x, a.shape[:-1] + x.shape[-1:])[rows]


def _start(a, step, theta):
    """Where the search for y starts: the root without a box where that has a closed form, else 0."""
$start


def _share(a, step, bound, theta):
    """The root y in (0, 1) of F, one for each row: Newton from y = 0, kept in a bracket. For rows with F(0) < 0 < F(1)."""
    price, y = _price(theta), _start(a, step, theta)
    low, high, busy = xp.zeros_like(y), xp.ones_like(y), xp.ones_like(y) > 0
    _s, terms, fall = _conjugate_terms(a, y, step, bound, theta)
    for turn in range(200):
        excess, bend = price - _sum(terms), _sum(fall)
        low, high = xp.where(excess < 0, y, low), xp.where(excess < 0, high, y)
        new = y - excess / bend
        middle = (low + high) / 2
        if turn > 8:  # the root is near zero, or flat
            middle = xp.where((low == 0) | (turn > 60), _middle(low, high), middle)
        new = xp.where((new >= low) & (new <= high) & (turn < 100), new, middle)
        busy = busy & (xp.abs(excess) > 4 * EPSILON(a) * price)  # else at the level of rounding
        new = xp.where(busy, new, y)
        moved, y = xp.abs(new - y), new
        busy = busy & (moved > 2 * EPSILON(a) * y)
        if not bool(busy.any()):
            break
        _s, terms, fall = _conjugate_terms(a, y, step, bound, theta)
    return y


@quiet
def prox(v, step$signature):
    """argmin_w |w - v|^2 / 2 + step r(w), shape (..., n), with exact zeros.

    With the nondecreasing F(y) = price - sum_k phi*((a_k - y s_k(y)) / step): F(0) >= 0, the whole row is zero; F(1) <= 0,
    y = 1; else y is the root of F. w_k = sign(v_k) y s_k(y).
    """
$prox


@quiet
def zero_threshold(v$signature):
    """T(v), shape (...,): the prox of v is zero exactly where step >= T; solves sum_k phi*(v_k / T) = price."""
    theta = theta_like(v)
    bound, price = _bounds(v, theta), _price(theta)
    a = _acting(_magnitude(v), bound)
    top = _max(xp.where(bound > 0, a, xp.zeros_like(a)))
    none = top == 0
    known = none | (top == xp.inf)
    a = xp.where(known, xp.ones_like(a), a / xp.where(known, xp.ones_like(top), top))
    low, high = xp.zeros_like(top), xp.ones_like(top)
    for _ in range(1100):
        short = _sum(_conjugate_terms(a * high, xp.zeros_like(a), xp.ones_like(a), bound, theta)[1]) < price
        if not bool(short.any()):
            break
        low, high = xp.where(short, high, low), xp.where(short, 2 * high, high)
    x = high
    for turn in range(400):  # the sum is convex and increasing in x = 1/T: Newton from above descends to the root
        s, terms, _fall = _conjugate_terms(a * x, xp.zeros_like(a), xp.ones_like(a), bound, theta)
        excess = _sum(terms) - price
        low, high = xp.where(excess < 0, x, low), xp.where(excess < 0, high, x)
        new = x - excess / _sum(a * s)
        middle = _middle(low, high)
        new = xp.where((new >= low) & (new <= high) & (new > 0) & (turn < 100), new, middle)
        new = xp.where(xp.abs(excess) <= 4 * EPSILON(a) * price, x, new)
        moved, x = xp.abs(new - x), new
        if not bool((moved > 2 * EPSILON(a) * x).any()):
            break
    return xp.where(none, xp.zeros_like(top), xp.where(top == xp.inf, top, top / x))[..., 0]
'''

SEPARATE_TERMS = '''def _root(a, y, step, theta):
    """The s >= 0 with y s + step phi'(s) = a, before the box cuts it."""
$root

def _conjugate_terms(a, y, step, bound, theta):
    """s_k(y) cut at the box, phi*((a - y s) / step), and minus its derivative in y."""
    root = _root(a, y, step, theta)
    cut = root > bound
    s = xp.where(cut, bound, root)
    uncut, bend = _legendre(s, theta), _curvature(s, theta)
    far = xp.where(y > 0, _legendre_top(theta), xp.full_like(y, xp.inf))  # y = 0: beyond the steepest slope of phi
    uncut = xp.where(s == xp.inf, far, uncut)
    terms = xp.where(cut, bound * ((a - y * bound) / step) - _cost(bound, theta), xp.where(s > 0, uncut, xp.zeros_like(a)))
    fall = xp.where(cut, bound * bound / step, xp.where(s > 0, s * (s * (bend / (y + step * bend))), xp.zeros_like(a)))
    return s, terms, fall


def _scalar_conjugate(x, theta):
    """phi*(x) over the box on the side of x's sign."""
    a = xp.abs(x)
    return _conjugate_terms(a, xp.zeros_like(a), xp.ones_like(a), _bounds(x, theta), theta)[1]
'''

PROX_GENERAL = """    theta = theta_like(v)
    step = _parameter(step, v)
    bound, price = _bounds(v, theta), _price(theta)
    a = _acting(_magnitude(v), bound)
    y = xp.zeros_like(_max(a))
    terms = _conjugate_terms(a, y, step, bound, theta)[1]
    beyond = xp.where(bound == xp.inf, a - step * _steepest(theta), -xp.ones_like(a))  # > 0: y -> 0 leaves a nonzero weight
    terms = xp.where(beyond >= 0, _legendre_top(theta) + xp.zeros_like(a), terms)
    positive = price - _sum(terms) >= 0
    zero, unpaid = positive & (_max(beyond) <= 0), positive & (_max(beyond) > 0)
    full = ~positive & (price - _sum(_conjugate_terms(a, xp.ones_like(y), step, bound, theta)[1]) <= 0)
    y = xp.where(full, xp.ones_like(y), y)
    inside = ~(positive | full)
    rows = inside[..., 0]
    if bool(rows.any()):
        part = tuple(_rows(x, a, rows) for x in theta)
        y[inside] = _share(a[rows], _rows(step, a, rows), _rows(bound, a, rows), part)[..., 0]
    size = y * _conjugate_terms(a, y, step, bound, theta)[0]
    size = xp.where(unpaid, xp.where(beyond > 0, beyond, xp.zeros_like(a)), size)
${clip}    answer = _point(v, a, size) + 0  # no negative zeros
    answer = xp.where(zero, xp.zeros_like(v), answer)
    return xp.where(xp.isnan(v) | xp.isnan(_sum(a)), v + _sum(v), answer)"""

CLIP = """    size = xp.where(size > a, a, size)  # by a rounding, which at the largest number is an overflow
"""

PROX_QUADRATIC = """    theta = theta_like(v)
    step = _parameter(step, v)
    _a = _magnitude(v)
    _soft = _positive(_a - step * _floor(theta))
    _size = _length(_soft)
${unpack}    _bend = step * ($bend)
    _y = _size * $reach - _bend  # the root of F; not-a-number goes through every line below and marks its row
    _y = xp.where(_y > 1, xp.ones_like(_y), _y)
    _kept = xp.where(_y <= 0, xp.zeros_like(_y), _y / (_y + _bend))
    return $signed + 0  # no negative zeros"""

START_QUADRATIC = """    _size, _step = _length(_positive(_radius(a) - step * _floor(theta))), step
${unpack}    _y = _size * $reach - _step * ($bend)
    return xp.where(_y < 1, _y, xp.ones_like(_y))"""

START_STATIONARY = """    _y = _stationary(a, theta)  # the answer for a step of 0, near it for a small one
    return xp.where(_y < 1, _y, xp.ones_like(_y))"""
