"""Expressions as text and back to the same tree, without ever evaluating the text as Python.

The text is sympy's own `srepr`, with the arguments in the order they are stored. It is read node by node from a list of
allowed names; every node is rebuilt without evaluation, so nothing is rearranged on the way.
"""

import ast
from typing import Any

import sympy
from sympy.functions.elementary.piecewise import ExprCondPair
from sympy.printing.repr import ReprPrinter

from perspective.errors import InputError
from perspective.norms import norm

HEADS = {  # rebuilt as head(*arguments, evaluate=False)
    head.__name__: head
    for head in (
        *(sympy.Add, sympy.Mul, sympy.Pow, sympy.Abs, sympy.Max, sympy.Min, sympy.sign, sympy.Piecewise),
        *(sympy.exp, sympy.log, sympy.cosh, sympy.sinh, sympy.tanh, sympy.acosh, sympy.asinh, sympy.atanh),
        *(sympy.cos, sympy.sin, sympy.tan, sympy.acos, sympy.asin, sympy.atan, sympy.erf, sympy.LambertW),
        *(sympy.Le, sympy.Lt, sympy.Ge, sympy.Gt, sympy.Eq, sympy.Ne, sympy.And, sympy.Or, sympy.Not, norm),
    )
}
WHOLE = {  # rebuilt as head(*arguments): these only hold their arguments
    head.__name__: head for head in (ExprCondPair, sympy.Tuple, sympy.Sum, sympy.Indexed, sympy.IndexedBase)
}
NAMES = {"oo": sympy.oo, "true": sympy.true, "false": sympy.false, "pi": sympy.pi, "E": sympy.E}
NUMBERS = {"Integer": sympy.Integer, "Rational": sympy.Rational}


def write_expression(expression: sympy.Basic) -> str:
    """The expression as text that `read_expression` turns into an equal one; InputError where it would not."""
    try:
        text = _Writer({"order": "none"}).doprint(expression)
        same = read_expression(text) == expression
    except (RecursionError, TypeError) as error:
        raise InputError(f"the expression {type(expression).__name__} cannot be written as text") from error
    if not same:
        raise InputError(f"the expression {expression} reads back differently; it cannot be kept as text")
    return text


def read_expression(text: str) -> sympy.Basic:
    """Text -> expression; InputError where it is not a call of allowed names and nothing else."""
    try:
        return _build(ast.parse(text, mode="eval").body)
    except (
        SyntaxError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
        MemoryError,
        ZeroDivisionError,
    ) as error:
        raise InputError(f"the text {text[:60]!r} is not an expression that was written here") from error


class _Writer(ReprPrinter):
    """srepr, with the assumptions of undefined functions, which sympy leaves out.

    The base of sympy's printers cannot be marked final; nothing derives from this one.
    """

    def _print_FunctionClass(self, head: Any) -> str:
        if not issubclass(head, sympy.core.function.AppliedUndef):
            return head.__name__
        assumptions = "".join(f", {name}={value}" for name, value in sorted(head._kwargs.items()))
        return f"Function({head.__name__!r}{assumptions})"


def _build(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in NAMES:
        return NAMES[node.id]
    if not isinstance(node, ast.Call):
        raise InputError(f"{ast.unparse(node)[:60]!r} is not allowed in a stored expression")
    if isinstance(node.func, ast.Call):  # an undefined function applied, as in Function('s', positive=True)(z)
        return _function(node.func)(*(_build(argument) for argument in node.args))
    head = node.func.id if isinstance(node.func, ast.Name) else ""
    if head == "Symbol":
        return sympy.Symbol(_text(node.args), **_assumptions(node))
    if head == "Float":
        (precision,) = (keyword.value for keyword in node.keywords)
        number = sympy.Float(_text(node.args), precision=_integer(precision))
        if not number.is_finite:  # NaN never travels; infinity is written oo
            raise InputError(f"{number} is not allowed in a stored expression")
        return number
    if node.keywords:
        raise InputError(f"{head!r} takes no named argument in a stored expression")
    if head in NUMBERS:
        return NUMBERS[head](*(_integer(argument) for argument in node.args))
    if head in WHOLE:
        return WHOLE[head](*(_build(argument) for argument in node.args))
    if head in HEADS:
        return HEADS[head](*(_build(argument) for argument in node.args), evaluate=False)
    raise InputError(f"{ast.unparse(node.func)[:60]!r} is not allowed in a stored expression")


def _function(node: ast.Call) -> Any:
    if not (isinstance(node.func, ast.Name) and node.func.id == "Function"):
        raise InputError(f"{ast.unparse(node)[:60]!r} is not allowed in a stored expression")
    return sympy.Function(_text(node.args), **_assumptions(node))


def _assumptions(node: ast.Call) -> dict[str, bool]:
    found = {}
    for keyword in node.keywords:
        value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
        if keyword.arg is None or not isinstance(value, bool):
            raise InputError("an assumption in a stored expression is a name with True or False")
        found[keyword.arg] = value
    return found


def _text(arguments: list[ast.expr]) -> str:
    if len(arguments) != 1 or not isinstance(arguments[0], ast.Constant) or not isinstance(arguments[0].value, str):
        raise InputError("a symbol, function or float in a stored expression has one quoted text")
    return arguments[0].value


def _integer(node: ast.expr) -> int:
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        sign, node = -1, node.operand
    if not isinstance(node, ast.Constant) or type(node.value) is not int:
        raise InputError("a number in a stored expression is written in digits")
    return sign * node.value
