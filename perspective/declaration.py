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
COMPARISONS = {ast.LtE: sympy.Le, ast.Lt: sympy.Lt, ast.GtE: sympy.Ge, ast.Gt: sympy.Gt}
LARGEST_EXPONENT = 64
PIECEWISE = "Piecewise((formula, s <= d), (formula, True))"


def declare(
    cost: str,
    price: str,
    bound: str | None = None,
    weight: str = "s",
    *,
    lower: str | None = None,
    radial: bool = False,
    domain: str | None = None,
) -> IndicatorBlock:
    """declare("alpha*s**2", price="1-alpha", bound="M") -> IndicatorBlock; `weight` names the symbol of |w|.

    Allowed: numbers, names, + - * / **, parentheses, sqrt exp log cosh sinh tanh Abs, and in the cost
    Piecewise((formula, s <= d), (formula, True)). The rest is as in `IndicatorBlock`. InputError otherwise.
    """
    if not weight.isidentifier():
        raise InputError(f"the weight {weight!r} is not a name; write a single name such as s")
    return IndicatorBlock(
        cost=sympy.piecewise_fold(parse(cost)),
        weight=sympy.Symbol(weight, positive=True),
        price=parse(price),
        bound=None if bound is None or bound.lower() in ("none", "inf", "oo") else parse(bound),
        lower=None if lower is None else parse(lower),
        radial=radial,
        domain=domain,
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
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Piecewise":
        return sympy.Piecewise(*(_case(case, text) for case in _cases(node, text)))
    if isinstance(node, ast.Tuple | ast.List):
        raise InputError(
            f"{text!r} is several formulas; write one (a group has one price: price levels are out of scope)"
        )
    piece = ast.get_source_segment(text.strip().replace("^", "**"), node) or text
    raise InputError(f"cannot read {piece!r} in the formula {text!r}; allowed: + - * / **, {', '.join(FUNCTIONS)}")


def _cases(node: ast.Call, text: str) -> list[ast.expr]:
    if not node.args or node.keywords:
        raise InputError(f"cannot read the Piecewise in the formula {text!r}; write it as {PIECEWISE}")
    return node.args


def _case(node: ast.expr, text: str) -> tuple[sympy.Expr, sympy.Basic]:
    if isinstance(node, ast.Tuple) and len(node.elts) == 2:
        formula, condition = node.elts
        if isinstance(condition, ast.Constant) and condition.value is True:
            return _convert(formula, text), sympy.true
        if isinstance(condition, ast.Compare) and len(condition.ops) == 1 and type(condition.ops[0]) in COMPARISONS:
            left, right = _convert(condition.left, text), _convert(condition.comparators[0], text)
            return _convert(formula, text), COMPARISONS[type(condition.ops[0])](left, right)
    raise InputError(f"cannot read the case {ast.unparse(node)} in the formula {text!r}; write it as {PIECEWISE}")
