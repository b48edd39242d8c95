"""Write a derived regulariser as numba source text: scalar loops over one group, which a fused kernel calls."""

from collections.abc import Callable
from string import Template

import sympy
from sympy.printing.pycode import PythonCodePrinter

from perspective.block import IndicatorBlock
from perspective.errors import InputError
from perspective.far_out import Q, far_out
from perspective.norms import powers_of
from perspective.numba_length import BALL, BALL_BACK, LENGTH
from perspective.numba_quadratic import QUADRATIC_GROUP, QUADRATIC_TERMS, SHRINK, SOFT_SHRINK
from perspective.numba_radial_box import JOINED_NUMBA_TERMS
from perspective.numba_separate import NUMERIC_NUMBA_ROOT, SEPARATE_NUMBA_TERMS
from perspective.numba_template import GROUP, HEAD, NUMBA, PLAIN
from perspective.scalar import AffineSegment, ScalarCalculus, T, V, Y

TAKEN = {"math", "numpy", "njit", "abs", "min", "max", "len", "range", "EPSILON", "loops", "sums"}


def write_numba(block: IndicatorBlock, scalar: ScalarCalculus) -> str:
    """Source text of one module with prox_group, prox_rows, prox_and_indicator and prox; InputError for a parameter's name
    that Python already uses, or a function that the loops have no form of."""
    names = block.parameters
    taken = [name for name in names if name in TAKEN]
    if taken:
        raise InputError(f"the parameter name {taken[0]!r} cannot stand in source text; rename the symbol")
    code = _Printer({"fully_qualified_modules": True}).doprint
    floor, upper = code(scalar.slope_at_zero), "math.inf" if block.bound is None else code(block.bound)
    ball, joined = block.domain == "ball", block.joined_by_norm
    params = "".join(f", {name}" for name in names)
    powers = powers_of(block.cost, block.weight)
    closed = None if powers is None else _power_root(powers, code)
    if closed is not None:
        root = closed
    elif scalar.affine is None:
        root = Template(NUMERIC_NUMBA_ROOT).substitute(
            floor=floor, steepest=code(scalar.steepest), guess=_guess(block, scalar, code), params=params
        )
    else:
        root = _affine_root(scalar.affine, floor, code)
    safe = scalar.affine is not None or powers is not None
    terms = (LENGTH if ball or joined else "") + (JOINED_NUMBA_TERMS if joined else SEPARATE_NUMBA_TERMS)
    prepare, group = PLAIN, HEAD + GROUP
    if scalar.quadratic is not None and scalar.legendre != 0 and block.lower is None and not block.radial:
        prepare, group = QUADRATIC_TERMS, HEAD + QUADRATIC_GROUP + GROUP
    fields = {
        "declaration": f"cost {block.cost}, price {block.price}, bound {block.bound}",
        "s": block.weight.name,
        "params": params,
        "cost": _formula(block.cost, block.weight, safe, code),
        "slope": _formula(scalar.slope, block.weight, safe, code),
        "curvature": _formula(scalar.curvature, block.weight, safe, code),
        "legendre": _formula(scalar.legendre, block.weight, safe, code),
        "price": code(block.price) + " + 0.0",
        "floor": floor,
        "less": "0.0" if scalar.slope_at_zero == 0 else f"_step * ({floor})",
        "stretch": "1.0" if scalar.curvature == 0 else "2.0 * _over / (1.0 + numpy.sqrt(_over))",
        "shrink": SHRINK if scalar.slope_at_zero == 0 else SOFT_SHRINK,
        "known": "-1.0" if ball else "_square",
        "square": "_square if _square >= 0 else _square_of(_x, _less)"
        if scalar.slope_at_zero == 0
        else "_square_of(_x, _less)",
        "pull": _pull(block, scalar, code),
        "steepest": code(scalar.steepest),
        "top": code(scalar.legendre_top),
        "bend": "0.0" if scalar.quadratic is None else code(2 * scalar.quadratic[0]),
        "upper": f"0.0 + {upper}",
        "lower": f"0.0 + {upper if block.lower is None else code(block.lower)}",
        "root": root,
        "magnitudes": BALL if ball else "    _m = _x",
        "directions": BALL_BACK if ball else "",
        "unpack": "\n".join(f"    {name} = _theta[{i}]" for i, name in enumerate(names)) or "    # no parameters",
        "listed": ", ".join(names) or "0.0",
        "signature": ", *, " + ", ".join(names) if names else "",
        "keywords": "".join(f", {name}={name}" for name in names),
    }
    fields["terms"] = Template(terms).substitute(fields)
    fields["prepare"] = Template(prepare + group).substitute(fields)
    text = Template(NUMBA).substitute(fields)
    compile(text, "<derived numba source>", "exec")
    return text


def _formula(expression: sympy.Expr, s: sympy.Symbol, safe: bool, code: Callable[[sympy.Expr], str]) -> str:
    """The formula, always a float; far out in 1 / s where powers of s would overflow."""
    near = f"{code(expression)} + 0.0"
    far = None if safe else far_out(expression, s)
    if far is None:
        return near
    return f"({near}) if {s.name} <= 1e4 else ({code(far.subs(Q, 1 / s))})" if far.has(Q) else near


def _guess(block: IndicatorBlock, scalar: ScalarCalculus, code: Callable[[sympy.Expr], str]) -> str:
    """The scaled root in closed form, where Newton then starts: digits it lost in a difference, Newton gets back."""
    if scalar.scaled_root is None or {"v", "y", "tau"} & set(block.parameters):
        return "1.0"
    names = {V: sympy.Symbol("_a"), Y: sympy.Symbol("_y"), T: sympy.Symbol("_step")}
    return code(scalar.scaled_root.subs(names))


def _power_root(powers: dict[sympy.Expr, sympy.Expr], code: Callable[[sympy.Expr], str]) -> str | None:
    """The root where y s + step phi'(s) = a is quadratic in r = s or sqrt(s), and no difference of near numbers is taken.

    grow r^2 + push r = rest, all >= 0, has r = rest / (push / 2 + sqrt(push^2 / 4 + grow rest)).
    """
    half, three = sympy.Rational(3, 2), sympy.Integer(3)
    if not (set(powers) <= {1, half, 2} or set(powers) <= {1, 2, three}) or set(powers) <= {1, 2}:
        return None
    if not all(part.is_nonnegative for part in powers.values()):
        return None
    first, second = (powers.get(sympy.Integer(p), sympy.Integer(0)) for p in (1, 2))
    other = powers.get(half, powers.get(three, sympy.Integer(0)))
    line = f"_y + _step * ({code(2 * second)})" if second != 0 else "_y"
    grow, push = (line, f"_step * ({code(half * other)})") if half in powers else (f"_step * ({code(3 * other)})", line)
    lines = [f"    _grow, _half = {grow}, 0.5 * ({push})", f"    _rest = _a - _step * ({code(first)})"]
    lines += ["    _r = _rest / (_half + numpy.sqrt(_half * _half + _grow * _rest))"]
    lines += ["    _s = _r * _r" if half in powers else "    _s = _r"]
    lines += ["    _s = _s if _rest > 0 else 0.0", "    return math.inf if _a == math.inf else _s"]
    return "\n".join(lines)


def _pull(block: IndicatorBlock, scalar: ScalarCalculus, code: Callable[[sympy.Expr], str]) -> str:
    """phi''(s) / (y + step phi''(s)) in one division; on a segment of constant phi'' a division that no number needs."""
    s = block.weight
    if scalar.affine is not None:
        lines = []
        for i, part in enumerate(reversed(scalar.affine)):
            bend = code(2 * part.a)
            share = "0.0" if part.a == 0 else f"({bend}) / (_y + _step * ({bend}))"
            lines.append(f"    _part = {share}" + (f" if _s <= {code(part.high)} else _part" if i else ""))
        return "\n".join([*lines, "    return _part"])
    if powers_of(block.cost, s) is not None:
        above, below = sympy.fraction(sympy.together(scalar.curvature))
        named = {s: sympy.Symbol("_s", positive=True)}
        above, below = (f"{code(part.subs(named))} + 0.0" for part in (above, below))
        return f"    _above, _below = {above}, {below}\n    return _above / (_y * _below + _step * _above)"
    names = "".join(f", {name}" for name in block.parameters)
    return f"    _bend = _curvature(_s{names})\n    return _bend / (_y + _step * _bend)"


def _affine_root(affine: tuple[AffineSegment, ...], floor: str, code: Callable[[sympy.Expr], str]) -> str:
    """One division on each segment; the last one first, so that earlier segments overwrite it."""
    lines = []
    for i, part in enumerate(reversed(affine)):
        a, b = code(2 * part.a), code(part.b)
        formula = f"(_a - _step * ({b})) / (_y + _step * ({a}))"
        if i:
            end, high = code(2 * part.a * part.high + part.b), code(part.high)
            formula = f"{formula} if _a <= _y * ({high}) + _step * ({end}) else _s"
        lines.append(f"    _s = {formula}")
    lines.append(f"    return _s if _a > _step * ({floor}) else 0.0")
    return "\n".join(lines)


class _Printer(PythonCodePrinter):
    """Prints a scalar expression in Python's own arithmetic; powers by products and square roots, which are far quicker."""

    def _print_Pow(self, expr: sympy.Expr, rational: bool = False) -> str:
        base, exponent = self.parenthesize(expr.base, 61), expr.exp
        if exponent.is_Integer and 0 < abs(exponent) <= 8:
            product = "*".join([base] * abs(int(exponent)))
            return f"({product})" if exponent > 0 else f"(1.0/({product}))"
        if (2 * exponent).is_Integer and 0 < 2 * exponent <= 16:
            whole = "*".join([base] * int(exponent - sympy.Rational(1, 2)))
            return f"(numpy.sqrt({self._print(expr.base)})" + (f"*{whole})" if whole else ")")
        return f"({self._print(expr.base)})**({self._print(exponent)})"

    def _print_Rational(self, expr: sympy.Rational) -> str:
        return f"({expr.p}.0/{expr.q}.0)"

    def _print_Integer(self, expr: sympy.Integer) -> str:
        return f"{int(expr)}.0"

    def _print_Infinity(self, expr: sympy.Expr) -> str:
        return "math.inf"

    def _print_Function(self, expr: sympy.Expr) -> str:
        name = {"Abs": "abs", "log": "math.log"}.get(expr.func.__name__, f"math.{expr.func.__name__}")
        if name.removeprefix("math.") not in (
            *("abs", "exp", "log", "sinh", "cosh", "tanh", "sin", "cos", "atan", "asinh", "acosh"),
        ):
            raise InputError(
                f"the cost uses {expr.func.__name__}, which has no numba form here; use powers, exp, log or cosh"
            )
        return f"{name}({', '.join(self._print(x) for x in expr.args)})"

    _print_exp = _print_log = _print_sinh = _print_cosh = _print_tanh = _print_Abs = _print_Function  # noqa: N815
    _print_asinh = _print_acosh = _print_atan = _print_sin = _print_cos = _print_Function
