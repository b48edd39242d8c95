"""The part of a derived numpy or torch module that finds the weights of a radial cost in a box; see `radial_box.py`.

It stands where `SEPARATE_TERMS` of `source_template.py` stands for every other block, and answers in the same shapes.
"""

JOINED_TERMS = '''def _clipped(a, q, bound):
    """The group s = min(a / q, bound), rho = |s|_2, and the share of rho^2 of the weights at and below the box."""
    s = xp.where(a > 0, a / q, a)
    s = xp.where(s < bound, s, bound)
    rho = _norm(s, 2)
    share = (s / xp.where(rho > 0, rho, xp.ones_like(rho))) ** 2
    cut = xp.where(s < bound, xp.zeros_like(s), share)
    return s, rho, cut, share - cut


def _surplus(a, q, y, step, bound, theta):
    """(q rho - y rho - step phi'(rho)) / rho, and the derivative of that product divided by rho."""
    _s, rho, cut, free = _clipped(a, q, bound)
    excess = xp.where(rho > 0, q - y - step * (_slope(rho, theta) / rho), q)
    return excess, _sum(cut) + _sum(free) * ((y + step * _curvature(rho, theta)) / q)


def _ratio(a, y, step, bound, theta):
    """The q with q rho = y rho + step phi'(rho), rho = |min(a / q, bound)|_2, for each row, and where there is one.

    q rho = |min(a, bound q)|_2 grows with q from 0 to |a|_2; the right side falls, to step phi'(0+). So there is one root
    where |a|_2 > step phi'(0+), elsewhere the group is zero; and low <= q <= high as long as the surplus is < 0 at low and
    >= 0 at high, which every turn keeps.
    """
    active = _length(a) > step * _floor(theta)
    widest = _norm(xp.where(a > 0, bound + xp.zeros_like(a), xp.zeros_like(a)), 2)
    push = y * widest + step * _slope(widest, theta)
    flat = push <= 0  # the whole group at the box costs no slope: q = 0
    high = push / widest  # the root where phi' is a multiple of rho, or where the box holds every weight
    high = xp.where((high > 0) & (high < xp.inf), high, xp.ones_like(high))
    low, seek = xp.zeros_like(high), active & ~flat
    for _ in range(1100):  # double until the root is bracketed; not-a-number: too large for phi, so below the root
        short = seek & ~(_surplus(a, high, y, step, bound, theta)[0] >= 0) & (high < xp.inf)
        if not bool(short.any()):
            break
        low, high = xp.where(short, high, low), xp.where(short, 2 * high, high)
    q = high
    for turn in range(300):  # Newton, inside the bracket or else its middle
        excess, bend = _surplus(a, q, y, step, bound, theta)
        below = ~(excess >= 0)
        low, high = xp.where(below, q, low), xp.where(below, high, q)
        new = q - excess / bend
        middle = xp.where(low > 0, xp.sqrt(low) * xp.sqrt(high), high / 16)
        new = xp.where((new >= low) & (new <= high) & (new > 0) & (turn < 60), new, middle)
        rough = seek & ~(xp.abs(excess) <= 2 * EPSILON(a) * q)  # else at the level of rounding
        new = xp.where(rough, new, q)
        moved, q = xp.abs(new - q), new
        if not bool((moved > 2 * EPSILON(a) * q).any()):
            break
    return xp.where(flat, xp.zeros_like(q), q), active


def _conjugate_terms(a, y, step, bound, theta):
    """s_k(y), the weights' shares of h*((a - y s) / step), h the cost in its box, and of minus its derivative in y."""
    q, active = _ratio(a, y, step, bound, theta)
    s, rho, cut, free = _clipped(a, q, bound)
    beyond = a - bound * q
    terms = (cut + free) * _legendre(rho, theta) + bound * (xp.where(beyond > 0, beyond, xp.zeros_like(a)) / step)
    bend, held, loose = _curvature(rho, theta), _sum(cut), _sum(free)
    fall = s * s * ((bend * loose + q * held / step) / (q * held + (y + step * bend) * loose))
    none = xp.zeros_like(a)
    return xp.where(active, s, none), xp.where(active, terms, none), xp.where(active & (s > 0), fall, none)


def _scalar_conjugate(x, theta):
    """phi*(|x|) over the box, for groups of one weight."""
    a = xp.abs(x)[..., None]
    return _conjugate_terms(a, xp.zeros_like(a), xp.ones_like(a), _bounds(a, theta), theta)[1][..., 0]
'''
