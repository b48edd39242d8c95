"""What the user declares: the price structure of one group of weights in the mixed-integer program.

min  L(w) + strength * sum_groups [ sum_k cost(|w_k|) + price * y ],   w = 0 where y = 0,  |w_k| <= bound * y,  y in {0, 1}
"""

from dataclasses import dataclass

import sympy

from perspective.errors import InputError
from perspective.piecewise import limit_at_zero


@dataclass(frozen=True)
class IndicatorBlock:
    """One group of weights with one on/off indicator.

    cost    convex expression in `weight` (which stands for |w_k|, so the cost is even), zero at zero, never negative
    weight  the symbol that stands for |w_k|
    price   what keeping the group costs; must not contain `weight`, and be positive once numbers are bound
    bound   box |w_k| <= bound, or None for no box
    lower   where given, the box is -lower <= w_k <= bound; 0 means nonnegative weights
    radial  the cost is of the group's Euclidean norm, cost(|w|_2), and the bound a Euclidean ball |w|_2 <= bound

    Numbers may stand for symbols. Every free symbol besides `weight` is a parameter and is taken to be positive;
    symbols are identified by name. Raises InputError with one sentence where the declaration makes no sense.
    """

    cost: sympy.Expr
    weight: sympy.Symbol
    price: sympy.Expr
    bound: sympy.Expr | None = None
    lower: sympy.Expr | None = None
    radial: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.weight, sympy.Symbol):
            raise InputError(f"weight must be a sympy Symbol standing for |w|, not {self.weight!r}")
        for field in ("cost", "price", "bound", "lower"):
            value = getattr(self, field)
            if field in ("bound", "lower") and value is None:
                continue
            try:
                expression = sympy.sympify(value)
            except (sympy.SympifyError, TypeError) as error:
                raise InputError(f"{field} must be a sympy expression or a number, not {value!r}") from error
            if not isinstance(expression, sympy.Expr):
                raise InputError(f"{field} must be a scalar expression, not {value!r}")
            object.__setattr__(self, field, _positive(expression))
        object.__setattr__(self, "weight", sympy.Symbol(self.weight.name, positive=True))
        if self.bound is sympy.oo:
            object.__setattr__(self, "bound", None)
        self._refuse_nonsense()

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the free parameters, sorted."""
        expressions = [e for e in (self.cost, self.price, self.bound, self.lower) if e is not None]
        symbols = set().union(*(e.free_symbols for e in expressions)) - {self.weight}
        return tuple(sorted(symbol.name for symbol in symbols))

    def _refuse_nonsense(self) -> None:
        s = self.weight
        for name, expression in (("price", self.price), ("bound", self.bound), ("lower bound", self.lower)):
            if expression is None:
                continue
            if s in expression.free_symbols:
                raise InputError(f"the {name} {expression} contains the weight {s}; it must depend on parameters only")
            if name == "lower bound" and expression == 0:
                continue
            if expression.is_nonpositive or expression.has(sympy.nan, sympy.zoo) or expression.is_real is False:
                raise InputError(f"the {name} is {expression}; it must be positive")
        at_zero = limit_at_zero(self.cost, s)
        if at_zero != 0:
            raise InputError(
                f"the cost {self.cost} is {at_zero} at {s} = 0; subtract it, so that a zero weight is free"
            )
        curvature = sympy.simplify(sympy.diff(self.cost, s, 2))
        if curvature.is_negative:
            raise InputError(f"the cost {self.cost} is not convex: its second derivative is {curvature} < 0")
        if sympy.simplify(sympy.diff(self.cost, s)).is_negative:
            raise InputError(f"the cost {self.cost} is negative for {s} > 0; a cost must be >= 0")
        if self.radial and self.lower is not None:
            raise InputError("a radial cost has no sides: leave lower out, the bound is the ball |w|_2 <= bound")
        if self.lower is not None and self.lower != 0 and self.bound is None:
            raise InputError("a lower bound needs a bound above too; for nonnegative weights without one give lower=0")
        if self.cost == 0 and self.bound is None:
            raise InputError("a zero cost needs a bound: without one the projected regulariser is zero everywhere")


def _positive(expression: sympy.Expr) -> sympy.Expr:
    """The same expression with every free symbol assumed positive."""
    return expression.xreplace({x: sympy.Symbol(x.name, positive=True) for x in expression.free_symbols})
