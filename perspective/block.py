"""What the user declares: the price structure of one group of weights in the mixed-integer program.

min  L(w) + strength * sum_groups [ sum_k cost(|w_k|) + price * y ],   w = 0 where y = 0,  |w_k| <= bound * y,  y in {0, 1}
"""

from dataclasses import dataclass

import sympy

from perspective.errors import InputError
from perspective.piecewise import limit_at_zero, refuse_broken


@dataclass(frozen=True)
class IndicatorBlock:
    """One group of weights with one on/off indicator.

    cost    convex expression in `weight` (which stands for |w_k|, so the cost is even), zero at zero, never negative
    weight  the symbol that stands for |w_k|
    price   what keeping the group costs; must not contain `weight`, and be positive once numbers are bound
    bound   box |w_k| <= bound, or None for no box
    lower   where given, the box is -lower <= w_k <= bound; 0 means nonnegative weights
    radial  the cost is of the group's Euclidean norm, cost(|w|_2)
    domain  what the bound is of: "box", |w_k| <= bound, or for a radial cost "ball", |w|_2 <= bound. None stands for
            "ball" where the cost is radial, else "box"

    A group has one price: several price levels of one group are out of scope.
    Numbers may stand for symbols. Every free symbol besides `weight` is a parameter and is taken to be positive;
    symbols are identified by name. Raises InputError with one sentence where the declaration makes no sense.
    """

    cost: sympy.Expr
    weight: sympy.Symbol
    price: sympy.Expr
    bound: sympy.Expr | None = None
    lower: sympy.Expr | None = None
    radial: bool = False
    domain: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.weight, sympy.Symbol):
            raise InputError(f"weight must be a sympy Symbol standing for |w|, not {self.weight!r}")
        for field in ("cost", "price", "bound", "lower"):
            value = getattr(self, field)
            if field in ("bound", "lower") and value is None:
                continue
            if field == "price" and isinstance(value, list | tuple | set | dict):
                raise InputError(
                    "several prices were given; a group has one price, price levels are out of scope: give one"
                )
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
        if self.domain is None:
            object.__setattr__(self, "domain", "ball" if self.radial else "box")
        self._refuse_nonsense()

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the free parameters, sorted."""
        expressions = [e for e in (self.cost, self.price, self.bound, self.lower) if e is not None]
        symbols = set().union(*(e.free_symbols for e in expressions)) - {self.weight}
        return tuple(sorted(symbol.name for symbol in symbols))

    @property
    def joined_by_norm(self) -> bool:
        """A radial cost in a box: the norm joins the weights, and the box cuts each of them."""
        return self.radial and self.domain == "box"

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
        refuse_broken(self.cost, s)
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
            raise InputError("a radial cost has no sides: leave lower out, its ball or box is symmetric")
        if self.domain not in ("box", "ball"):
            raise InputError(
                f'the domain is {self.domain!r}; choose "box" for |w_k| <= bound or "ball" for |w|_2 <= bound'
            )
        if self.domain == "ball" and not self.radial:
            raise InputError(
                "a ball needs a radial cost: add radial=True, or leave domain out for the box |w_k| <= bound"
            )
        if self.joined_by_norm and self.bound is None:
            raise InputError("a radial cost in a box needs the box: give bound, or leave domain out")
        if self.lower is not None and self.lower != 0 and self.bound is None:
            raise InputError("a lower bound needs a bound above too; for nonnegative weights without one give lower=0")
        if self.cost == 0 and self.bound is None:
            raise InputError("a zero cost needs a bound: without one the projected regulariser is zero everywhere")


def _positive(expression: sympy.Expr) -> sympy.Expr:
    """The same expression with every free symbol assumed positive."""
    return expression.xreplace({x: sympy.Symbol(x.name, positive=True) for x in expression.free_symbols})
