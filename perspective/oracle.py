"""Slow, global truth about one group, computed from the declaration alone: it shares no formula with the stages.

Values and conjugates come from refined grids over y and s; the prox minimises over y on a refined grid that includes both
ends and, inside, over each weight by golden section. Nothing starts at the answer under test. A radial cost in a box is
searched along clipped rays (`clipped_rays.py`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import sympy
from numpy.typing import NDArray

from perspective.block import IndicatorBlock
from perspective.clipped_rays import search_clipped_rays
from perspective.golden_section import search_golden

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Oracle:
    """cost: phi on arrays of s >= 0; price: c; box -lower <= w <= bound (inf: none).

    radial: phi is of |w|_2; ball: so is the bound.
    """

    cost: Callable[[Array], Array]
    price: float
    bound: float
    lower: float
    radial: bool
    ball: bool

    def magnitudes(self, w: Array) -> tuple[Array, Array]:
        """(|w_k|, its bound), both (n,); of a ball: (1,)."""
        a = np.array([np.linalg.norm(w)]) if self.ball else np.abs(w)
        return a, np.full_like(a, self.bound) if self.ball else np.where(w < 0, self.lower, self.bound)

    def contains(self, w: Array) -> bool:
        """Whether w lies in the box."""
        a, bound = self.magnitudes(w)
        return bool(np.all(a <= bound * (1 + 1e-15)))

    def value(self, w: Array) -> tuple[float, float]:
        """min over y of y sum phi(w/y) + c y for one group w (n,): the minimum and a minimising y (1e-12 stands for 0)."""
        a, bound = self.magnitudes(w)
        if not a.any():
            return 0.0, 0.0
        if not self.contains(w):
            return np.inf, 1.0
        needed = float(np.max(a[a > 0] / bound[a > 0]))
        return _refine(lambda y: self.perspective(w, y), max(min(needed, 1.0), 1e-12), 1.0)

    def perspective(self, w: Array, y: Array) -> Array:
        """y sum_k phi(|w_k| / y) + c y for an array of y > 0."""
        a = np.array([np.linalg.norm(w)]) if self.radial else np.abs(w)
        return y * self.cost(a / y[:, None]).sum(axis=1) + self.price * y

    def conjugate_terms(self, z: Array) -> Array:
        """sup over 0 <= s <= bound of |z_k| s - phi(s), by golden section; inf where it grows without end.

        A radial cost in a box: one number, sup over the box of z.w - phi(|w|_2).
        """
        z, bound = self.magnitudes(z)
        if self.radial and not self.ball:
            _, lowest = search_clipped_rays(z, self.bound, lambda s: self.cost(_norms(s)) - s @ z)
            return -np.minimum(lowest, 0.0)
        top = np.where(np.isfinite(bound), bound, 1.0)
        for _ in range(60):  # concave in s: once it falls at the right end, the maximum is to the left
            rising = z * top - self.cost(top) >= z * top * 0.999 - self.cost(top * 0.999)
            top = np.where(rising & (z > 0) & ~np.isfinite(bound), 2 * top, top)
        best = -search_golden(lambda s: self.cost(s) - z * s, np.zeros_like(z), top)[1]
        best = np.maximum(best, z * top - self.cost(top))
        return np.where((top > 1e15) & (z > 0) & ~np.isfinite(bound), np.inf, np.maximum(best, 0.0))

    def conjugate(self, z: Array) -> float:
        """sup_w z.w - r(w) = sup over y in [0, 1] of y (sum phi*(z_k) - c): linear in y, so at y = 0 or 1."""
        return float(max(0.0, self.conjugate_terms(z).sum() - self.price))

    def prox(self, v: Array, step: float) -> tuple[Array, float]:
        """Global minimiser of |w - v|^2/2 + step r(w) for one group v (n,), and its objective."""
        a, bound = self.magnitudes(v)

        def objective(y: Array) -> Array:
            return self._inner(a, bound, y, step)[1].sum(axis=1) + step * self.price * y

        best, y = _refine(objective, 1e-9, 1.0)
        at_zero = 0.5 * float(a @ a)
        if at_zero <= best:
            return np.zeros_like(v), at_zero
        s = self._inner(a, bound, np.array([y]), step)[0][0]
        return (v / a[0] if self.ball else np.sign(v)) * y * s, best

    def _inner(self, a: Array, bound: Array, y: Array, step: float) -> tuple[Array, Array]:
        column = y[:, None]
        if self.radial and not self.ball:
            return self._inner_joined(a, y, step)
        top = np.minimum(a / column, bound)  # the best y s never exceeds a
        return search_golden(
            lambda s: 0.5 * (column * s - a) ** 2 + step * column * self.cost(s), np.zeros_like(top), top
        )

    def _inner_joined(self, a: Array, y: Array, step: float) -> tuple[Array, Array]:
        def objective(s: Array) -> Array:
            fit = 0.5 * ((y[:, None] * s - a) ** 2).sum(axis=1)
            return fit + step * y * self.cost(_norms(s))

        s, lowest = search_clipped_rays(a, self.bound, objective, y.size)
        return s, lowest[:, None]


def _norms(rows: Array) -> Array:
    return np.sqrt(np.einsum("ij,ij->i", rows, rows))


def consult(block: IndicatorBlock, parameters: Mapping[str, float]) -> Oracle:
    """The oracle of a block with numbers for its parameters."""
    numbers = {sympy.Symbol(name, positive=True): value for name, value in parameters.items()}
    cost = _callable(block.cost.subs(numbers), block.weight)
    bound = np.inf if block.bound is None else float(block.bound.subs(numbers))
    lower = bound if block.lower is None else float(block.lower.subs(numbers))

    def phi(s: Array) -> Array:
        with np.errstate(over="ignore"):  # both branches of a Piecewise are evaluated
            return cost(s) + 0.0 * s

    return Oracle(phi, float(block.price.subs(numbers)), bound, lower, block.radial, block.domain == "ball")


def _callable(cost: sympy.Expr, s: sympy.Symbol) -> Callable[[Array], Array]:
    """The cost on arrays; cases by nested where, which is far faster than numpy's select."""
    if not isinstance(cost, sympy.Piecewise):
        return sympy.lambdify(s, cost, "numpy")
    cases = [tuple(sympy.lambdify(s, e, "numpy") for e in case) for case in cost.args]

    def evaluate(x: Array) -> Array:
        answer = cases[-1][0](x)
        for formula, condition in reversed(cases[:-1]):
            answer = np.where(condition(x), formula(x), answer)
        return answer

    return evaluate


def _refine(objective: Callable[[Array], Array], low: float, high: float) -> tuple[float, float]:
    """Global grid on [low, high], log and linear, then four refinements around the best point; (minimum, argument)."""
    grid = np.unique(np.concatenate([np.geomspace(low, high, 160), np.linspace(low, high, 160)]))
    for _ in range(5):
        values = objective(grid)
        k = int(np.argmin(values))
        left, right = grid[max(k - 1, 0)], grid[min(k + 1, len(grid) - 1)]
        answer = float(values[k]), float(grid[k])
        grid = np.linspace(left, right, 41)
    return answer
