"""Write a derived regulariser as readable source text for numpy or torch; the numbers of the package come from this text.

Neither library is imported here. Triton and numba, which hold the prox only, have writers of their own.
"""

import re
from keyword import iskeyword
from string import Template

import sympy
from sympy.printing.pycode import PythonCodePrinter

from perspective.block import IndicatorBlock
from perspective.errors import InputError
from perspective.far_out import far_out
from perspective.norms import norm, powers_of
from perspective.numba_source import write_numba
from perspective.projection import Projection
from perspective.scalar import AffineSegment, ScalarCalculus
from perspective.source_headers import HEADERS
from perspective.source_radial_box import JOINED_TERMS
from perspective.source_template import (
    BODY,
    CLIP,
    FAR_OUT,
    NUMERIC_ROOT,
    NUMERIC_STATIONARY,
    PROX_GENERAL,
    PROX_QUADRATIC,
    SEPARATE_TERMS,
    START_QUADRATIC,
    START_STATIONARY,
)
from perspective.triton_source import write_triton

TARGETS = ("numpy", "torch", "triton", "numba")
RESERVED = {"v", "w", "z", "step", "theta", "xp", "quiet"}  # names the public functions use before the parameters


def write_source(block: IndicatorBlock, scalar: ScalarCalculus, projection: Projection, target: str) -> str:
    """Source text of one module with value, indicator, conjugate, prox, gradient and zero_threshold; needs only `target`."""
    if target not in TARGETS:
        raise InputError(f"no source for {target!r}; choose one of {', '.join(TARGETS)}")
    names = block.parameters
    reserved = [n for n in names if n in RESERVED or n.startswith("_") or not n.isidentifier() or iskeyword(n)]
    if reserved:
        raise InputError(f"the parameter name {reserved[0]!r} cannot stand in source text; rename the symbol")
    if target == "triton":
        return write_triton(block, scalar, projection)
    if target == "numba":
        return write_numba(block, scalar)
    printer = _Printer()
    unpack = f"    {', '.join(names)}{',' if len(names) == 1 else ''} = theta\n" if names else ""

    def scalar_body(expression: sympy.Expr) -> str:
        used = {symbol.name for symbol in expression.free_symbols} - {block.weight.name}
        return (unpack if used else "") + "    return " + printer.doprint(expression)

    safe = scalar.affine is not None or powers_of(block.cost, block.weight) is not None  # no fraction overflows to nan

    def elementwise_body(expression: sympy.Expr) -> str:
        far = None if safe else far_out(expression, block.weight)
        if far is not None:
            near, beyond = printer.doprint(expression), printer.doprint(far)
            return unpack + Template(FAR_OUT).substitute(s=block.weight.name, near=near, far=beyond)
        constant = block.weight not in expression.free_symbols
        return scalar_body(expression) + (f" + xp.zeros_like({block.weight.name})" if constant else "")

    ball, joined = block.domain == "ball", block.joined_by_norm
    root = NUMERIC_ROOT if scalar.affine is None else _affine_root(scalar.affine, printer, unpack)
    fields = {
        "declaration": f"cost {block.cost}, price {block.price}, bound {block.bound}",
        "signature": ", *, " + ", ".join(names) if names else "",
        "parameters": ", ".join(names) if names else "(none here)",
        "s": block.weight.name,
        "cost": elementwise_body(block.cost),
        "slope": elementwise_body(scalar.slope),
        "curvature": elementwise_body(scalar.curvature),
        "legendre": elementwise_body(scalar.legendre),
        "floor": scalar_body(scalar.slope_at_zero),
        "price": scalar_body(block.price),
        "steepest": scalar_body(scalar.steepest),
        "legendre_top": scalar_body(scalar.legendre_top),
        "bounds": _bounds_body(block, printer, unpack),
        "magnitude": "_norm(xp.abs(x), 2)" if ball else "xp.abs(x)",
        "point": "_toward(x, a, size)" if ball else "xp.sign(x) * size",
        "acting": "xp.where(bound > 0, a, xp.zeros_like(a))" if block.lower is not None else "a",
        "radius": "_norm(a, 2)" if joined else "a",
        "along": "a / xp.where(_max(a) > 0, _norm(a, 2), xp.ones_like(_max(a)))" if joined else "1",
        "terms": JOINED_TERMS if joined else Template(SEPARATE_TERMS).substitute(root=root),
        "stationary": ("    a = _norm(a, 2)\n" if joined else "") + _stationary_body(projection, printer, unpack),
        "theta": "(" + ", ".join(f"_parameter({name}, LIKE)" for name in names) + (",)" if len(names) == 1 else ")"),
    }
    fields["edge"] = "1 + 8 * EPSILON(w)" if ball else "1"  # |w|_2 of a point on the ball is rounded
    fields |= _free_root(block, scalar, projection, printer, unpack)
    text = Template(HEADERS[target] + BODY).substitute(fields)
    return re.sub(r"theta_like\((\w)\)", lambda m: fields["theta"].replace("LIKE", m[1]), text)


def _free_root(
    block: IndicatorBlock, scalar: ScalarCalculus, projection: Projection, printer: "_Printer", unpack: str
) -> dict[str, str]:
    """The prox in closed form where no box can bind a cost a s^2 + b s, else where the search for y starts."""
    clip = CLIP if scalar.affine is None or block.joined_by_norm else ""  # a root in closed form is never above a
    fields = {"prox": Template(PROX_GENERAL).substitute(clip=clip), "start": "    return xp.zeros_like(_max(a))"}
    if scalar.quadratic is None and projection.stationary is not None and projection.stationary.atoms(norm):
        fields["start"] = START_STATIONARY
    if scalar.quadratic is None or scalar.legendre == 0:
        return fields
    bend = printer.doprint(2 * scalar.quadratic[0])
    reach = f"({printer.doprint(scalar.quadratic[0] / block.price)})**0.5"
    if block.bound is None and block.lower is None:
        signed = "_point(v, _a, _kept * _soft)" if block.domain == "ball" else "xp.copysign(_kept * _soft, v)"
        fields["prox"] = Template(PROX_QUADRATIC).substitute(bend=bend, reach=reach, signed=signed, unpack=unpack)
    else:
        fields["start"] = Template(START_QUADRATIC).substitute(bend=bend, reach=reach, unpack=unpack)
    return fields


def _bounds_body(block: IndicatorBlock, printer: "_Printer", unpack: str) -> str:
    upper, lower = sympy.oo if block.bound is None else block.bound, block.lower
    used = unpack if any(e is not None and e.free_symbols for e in (upper, lower)) else ""
    if lower is None:
        return f"    like = x\n{used}    return _parameter({printer.doprint(upper)}, like)"
    sides = f"xp.where(negative, {printer.doprint(lower)}, {printer.doprint(upper)})"
    return f"    negative, like = x < 0, x\n{used}    return {sides} + xp.zeros_like(like)"


def _affine_root(affine: tuple[AffineSegment, ...], printer: "_Printer", unpack: str) -> str:
    """One division on each segment; the last one first, so that earlier segments overwrite it."""
    lines = []
    for i, part in enumerate(reversed(affine)):
        a, b = (printer.doprint(e) for e in (2 * part.a, part.b))
        lines.append(f"    _s = (_a - _step * ({b})) / (_y + _step * ({a}))\n" if i == 0 else "")
        if i:
            end = printer.doprint(2 * part.a * part.high + part.b)
            high = printer.doprint(part.high)
            short = f"_a <= _y * ({high}) + _step * ({end})"
            lines.append(f"    _s = xp.where({short}, (_a - _step * ({b})) / (_y + _step * ({a})), _s)\n")
    head = "    _a, _y, _step, _least = a, y, step, step * _floor(theta)\n"
    used = unpack if any(e.free_symbols for part in affine for e in (part.a, part.b)) else ""
    return head + used + "".join(lines) + "    return xp.where(_a > _least, _s, xp.zeros_like(_a))"


def _stationary_body(projection: Projection, printer: "_Printer", unpack: str) -> str:
    expression = projection.stationary
    if expression is None:
        return NUMERIC_STATIONARY
    atoms = sorted(expression.atoms(norm), key=sympy.default_sort_key)
    if not atoms:
        return "    return xp.zeros_like(_max(a))"
    # a parameter may be called a: the magnitudes get a name that none has
    lines = [f"    _norm{i} = _norm(_rows, {_exponent(atom.args[1], printer)})\n" for i, atom in enumerate(atoms)]
    named = expression.subs({atom: sympy.Symbol(f"_norm{i}", positive=True) for i, atom in enumerate(atoms)})
    return "    _rows = a\n" + unpack + "".join(lines) + "    return " + printer.doprint(named)


def _exponent(p: sympy.Expr, printer: "_Printer") -> str:
    if p.free_symbols:
        return str(printer.doprint(p))
    return str(p) if p.is_Integer else repr(float(p))


class _Printer(PythonCodePrinter):
    """Prints a scalar expression with the functions of `xp`, which numpy and torch share."""

    def _print_Pow(self, expr: sympy.Expr, rational: bool = False) -> str:
        if expr.is_number and not expr.is_rational:  # torch takes no root of a Python number
            return repr(float(expr))
        if expr.exp == sympy.Rational(1, 2):
            return f"xp.sqrt({self._print(expr.base)})"
        if expr.exp == sympy.Rational(-1, 2):
            return f"1/xp.sqrt({self._print(expr.base)})"
        if expr.exp == -1:
            return f"1/{self.parenthesize(expr.base, 61)}"
        return f"{self.parenthesize(expr.base, 61)}**{self.parenthesize(expr.exp, 61)}"

    def _print_Piecewise(self, expr: sympy.Piecewise) -> str:
        text = self._print(expr.args[-1][0])
        for formula, condition in reversed(expr.args[:-1]):
            text = f"xp.where({self._print(condition)}, {self._print(formula)}, {text})"
        return text

    def _print_Exp1(self, expr: sympy.Expr) -> str:
        return "2.718281828459045"

    def _print_Infinity(self, expr: sympy.Expr) -> str:
        return "xp.inf"

    def _print_Pi(self, expr: sympy.Expr) -> str:
        return "3.141592653589793"

    def _print_Function(self, expr: sympy.Expr) -> str:
        name = {"Abs": "abs", "log": "log"}.get(expr.func.__name__, expr.func.__name__)
        if name not in ("abs", "exp", "log", "sinh", "cosh", "tanh", "sin", "cos", "atan", "asinh", "acosh", "sign"):
            raise InputError(
                f"the cost uses {expr.func.__name__}, which has no numeric form here; use powers, exp, log or cosh"
            )
        if expr.is_number:
            return repr(float(expr))
        return f"xp.{name}({', '.join(self._print(x) for x in expr.args)})"

    _print_exp = _print_log = _print_sinh = _print_cosh = _print_tanh = _print_Abs = _print_Function  # noqa: N815
    _print_asinh = _print_acosh = _print_atan = _print_sin = _print_cos = _print_sign = _print_Function
