"""A declaration written as text, as on the command line, parsed without ever evaluating it as Python."""

import ast
from collections.abc import Sequence

import sympy

from perspective.block import IndicatorBlock
from perspective.errors import InputError

FUNCTIONS = {f.__name__: f for f in (sympy.sqrt, sympy.exp, sympy.log, sympy.cosh, sympy.sinh, sympy.tanh, sympy.Abs)}
OPERATORS = {
    ast.Add: lambda x, y: x + y,
    ast.Sub: lambda x, y: x - y,
    ast.Mult: lambda x, y: x * y,
    ast.Div: lambda x, y: x / y,
    ast.Pow: lambda x, y: x**y,
}
LARGEST_EXPONENT = 64


def declare(cost: str, price: str, bound: str | None = None, weight: str = "s") -> IndicatorBlock:
    """declare("alpha*s**2", price="1-alpha", bound="M") -> IndicatorBlock; `weight` names the symbol of |w|.

    Allowed: numbers, names, + - * / **, parentheses, sqrt exp log cosh sinh tanh Abs. InputError otherwise.
    """
    return IndicatorBlock(
        cost=parse(cost),
        weight=sympy.Symbol(weight, positive=True),
        price=parse(price),
        bound=None if bound is None or bound.lower() in ("none", "inf", "oo") else parse(bound),
    )


def parse(text: str) -> sympy.Expr:
    """Arithmetic text -> sympy expression with positive symbols; decimals become exact rationals."""
    try:
        tree = ast.parse(text.strip().replace("^", "**"), mode="eval")
    except (SyntaxError, ValueError) as error:
        raise InputError(f"cannot read the formula {text!r}; write it like alpha*s**2 + beta*s") from error
    return _convert(tree.body, text)


def read_settings(settings: Sequence[str]) -> dict[str, float]:
    """["alpha=0.5", "M=2"] -> {"alpha": 0.5, "M": 2.0}; InputError naming the one that is not NAME=NUMBER."""
    numbers = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if name.strip() in numbers:
            raise InputError(f"--set gives {name.strip()} twice; give each parameter once")
        try:
            numbers[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals or not name.strip().isidentifier():
            raise InputError(f"cannot read --set {setting!r}; write it as NAME=NUMBER, for example --set alpha=0.5")
    return numbers


def _convert(node: ast.expr, text: str) -> sympy.Expr:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return sympy.Rational(str(node.value))
    if isinstance(node, ast.Name):
        return sympy.Symbol(node.id, positive=True)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = _convert(node.left, text), _convert(node.right, text)
        if isinstance(node.op, ast.Pow) and right.is_number and abs(right) > LARGEST_EXPONENT:
            raise InputError(
                f"the exponent {right} in the formula {text!r} is too large; use at most {LARGEST_EXPONENT}"
            )
        return OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _convert(node.operand, text)
        return -value if isinstance(node.op, ast.USub) else value
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in FUNCTIONS
        and len(node.args) == 1
    ):
        return FUNCTIONS[node.func.id](_convert(node.args[0], text))
    piece = ast.get_source_segment(text.strip().replace("^", "**"), node) or text
    raise InputError(f"cannot read {piece!r} in the formula {text!r}; allowed: + - * / **, {', '.join(FUNCTIONS)}")
