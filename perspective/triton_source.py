"""Write a derived regulariser as a fused Triton kernel: source text that needs torch and triton only."""

from collections.abc import Callable
from string import Template

import sympy
from sympy.printing.pycode import PythonCodePrinter

from perspective.block import IndicatorBlock
from perspective.errors import InputError
from perspective.norms import norm
from perspective.projection import Projection
from perspective.scalar import AffineSegment, ScalarCalculus, T, V, Y
from perspective.triton_radial_box import JOINED_TRITON_TERMS
from perspective.triton_starts import (
    BEGIN_ANYWHERE,
    BEGIN_POWER,
    BEGIN_QUADRATIC,
    KNOWN_ANYWHERE,
    KNOWN_POWER,
    KNOWN_QUADRATIC,
    NUMERIC_TRITON_ROOT,
    SEPARATE_TRITON_TERMS,
)
from perspective.triton_template import BALL_ANSWER, BALL_MAGNITUDE, BOX_ANSWER, BOX_MAGNITUDE, TRITON

TAKEN = {"torch", "triton", "tl", "float", "BALL", "JOINED", "INFINITY", "BLOCK", "WORTH"}


def write_triton(block: IndicatorBlock, scalar: ScalarCalculus, projection: Projection) -> str:
    """Source text of one module with prox and prox_and_indicator; InputError for a function Triton has no form of."""
    names = block.parameters
    taken = [name for name in names if name in TAKEN]
    if taken:
        raise InputError(f"the parameter name {taken[0]!r} cannot stand in source text; rename the symbol")
    params = "".join(f", {name}" for name in names)
    code = _Printer().doprint
    floor, steepest = code(scalar.slope_at_zero), code(scalar.steepest)
    if scalar.affine is None:
        root = Template(NUMERIC_TRITON_ROOT).substitute(
            floor=floor, steepest=steepest, guess=_guess(block, scalar, code), params=params
        )
    else:
        root = _affine_root(scalar.affine, floor, code)
    upper = "INFINITY" if block.bound is None else code(block.bound)
    bounds = f"{upper} + 0.0 * _step"
    if block.lower is not None:
        bounds = f"tl.where(_v < 0, {code(block.lower)}, {upper}) + 0.0 * _step"
    begin, known, ball = BEGIN_ANYWHERE, KNOWN_ANYWHERE, block.domain == "ball"
    if scalar.quadratic is not None and scalar.legendre != 0 and block.lower is None and not block.joined_by_norm:
        begin = Template(BEGIN_QUADRATIC).substitute(floor=floor)
        known = Template(KNOWN_QUADRATIC).substitute(bend=code(2 * scalar.quadratic[0]))
    elif scalar.quadratic is None and projection.stationary is not None and not block.radial:
        begin, known = _power_start(projection.stationary, code) or (begin, known)
    terms = Template(JOINED_TRITON_TERMS if block.joined_by_norm else SEPARATE_TRITON_TERMS)
    text = Template(TRITON).substitute(
        declaration=f"cost {block.cost}, price {block.price}, bound {block.bound}",
        s=block.weight.name,
        params=params,
        pointers="".join(f", _{name}_ptr" for name in names),
        loads="\n".join(f"    {name} = tl.load(_{name}_ptr + _row)" for name in names) or "    # no parameters",
        columns="".join(f", column({name})" for name in names),
        signature=", *, " + ", ".join(names) if names else "",
        keywords="".join(f", {name}={name}" for name in names),
        cost=code(block.cost),
        slope=code(scalar.slope),
        curvature=code(scalar.curvature),
        legendre=code(scalar.legendre),
        price=code(block.price) + " + 0.0 * _step",
        steepest=steepest,
        legendre_top=code(scalar.legendre_top),
        terms=terms.substitute(root=root, params=params, floor=floor),
        begin=begin,
        known=known,
        bounds=bounds,
        ball=ball,
        joined=block.joined_by_norm,
        magnitude=BALL_MAGNITUDE if ball else BOX_MAGNITUDE,
        answer=BALL_ANSWER if ball else BOX_ANSWER,
    )
    if "math." in text:
        raise InputError(f"the cost {block.cost} uses a function without a Triton form; use powers, exp, log or cosh")
    return text


def _power_start(stationary: sympy.Expr, code: Callable[[sympy.Expr], str]) -> tuple[str, str] | None:
    """Where the search starts when y of r itself is a formula of one norm with p >= 1 a number."""
    atoms = list(stationary.atoms(norm))
    if len(atoms) != 1 or not atoms[0].args[1].is_Rational or atoms[0].args[1] < 1:
        return None
    p, magnitude, size = atoms[0].args[1], sympy.Symbol("_a", positive=True), sympy.Symbol("_norm", positive=True)
    formula = code(stationary.subs(atoms[0], size))
    known = Template(KNOWN_POWER).substitute(inverse=repr(1 / float(p)), stationary=formula)
    return Template(BEGIN_POWER).substitute(power=code(magnitude**p)), known


def _guess(block: IndicatorBlock, scalar: ScalarCalculus, code: Callable[[sympy.Expr], str]) -> str:
    """The scaled root in closed form, where Newton then starts: digits it lost in a difference, Newton gets back."""
    if scalar.scaled_root is None or {"v", "y", "tau"} & set(block.parameters) or scalar.scaled_root.has(sympy.I):
        return "1.0"
    return code(scalar.scaled_root.subs({V: sympy.Symbol("_a"), Y: sympy.Symbol("_y"), T: sympy.Symbol("_step")}))


def _affine_root(affine: tuple[AffineSegment, ...], floor: str, code: Callable[[sympy.Expr], str]) -> str:
    """One division on each segment; the last one first, so that earlier segments overwrite it."""
    lines = []
    for i, part in enumerate(reversed(affine)):
        a, b = code(2 * part.a), code(part.b)
        formula = f"(_a - _step * ({b})) / (_y + _step * ({a}))"
        if i == 0:
            lines.append(f"    _s = {formula}")
        else:
            end, high = code(2 * part.a * part.high + part.b), code(part.high)
            lines.append(f"    _s = tl.where(_a <= _y * ({high}) + _step * ({end}), {formula}, _s)")
    lines.append(f"    return tl.where(_a > _step * ({floor}), _s, 0.0)")
    return "\n".join(lines)


class _Printer(PythonCodePrinter):
    """Prints a scalar expression with Triton's elementwise functions; powers by products, square roots or exp and log."""

    def _print_Pow(self, expr: sympy.Expr, rational: bool = False) -> str:
        if expr.is_number:
            return repr(float(expr))
        base, exponent = self.parenthesize(expr.base, 61), expr.exp
        if exponent.is_Integer and 0 < exponent <= 8:
            return "(" + "*".join([base] * int(exponent)) + ")"
        if exponent.is_Integer and -8 <= exponent < 0:
            return "(1.0/(" + "*".join([base] * int(-exponent)) + "))"
        if (2 * exponent).is_Integer and 0 < 2 * exponent <= 16:
            whole = "*".join([base] * int(exponent - sympy.Rational(1, 2)))
            return f"(tl.sqrt({self._print(expr.base)})" + (f"*{whole})" if whole else ")")
        return f"tl.exp(({self._print(exponent)})*tl.log({self._print(expr.base)}))"

    def _print_Piecewise(self, expr: sympy.Piecewise) -> str:
        text = self._print(expr.args[-1][0])
        for formula, condition in reversed(expr.args[:-1]):
            text = f"tl.where({self._print(condition)}, {self._print(formula)}, {text})"
        return text

    def _print_Infinity(self, expr: sympy.Expr) -> str:
        return "INFINITY"

    def _print_Rational(self, expr: sympy.Rational) -> str:
        return f"({expr.p}.0/{expr.q}.0)"

    def _print_Integer(self, expr: sympy.Integer) -> str:
        return f"{int(expr)}.0"

    def _print_Function(self, expr: sympy.Expr) -> str:
        name, inner = expr.func.__name__, ", ".join(self._print(x) for x in expr.args)
        if name in ("exp", "log", "sin", "cos"):
            return f"tl.{name}({inner})"
        if name == "Abs":
            return f"tl.abs({inner})"
        if name in ("cosh", "sinh"):
            return f"(0.5*(tl.exp({inner}) {'+' if name == 'cosh' else '-'} tl.exp(-({inner}))))"
        if name == "tanh":
            return f"(1.0 - 2.0/(tl.exp(2.0*({inner})) + 1.0))"
        raise InputError(f"the cost uses {name}, which has no Triton form here; use powers, exp, log or cosh")

    _print_exp = _print_log = _print_sinh = _print_cosh = _print_tanh = _print_Abs = _print_Function  # noqa: N815
    _print_sin = _print_cos = _print_Function
