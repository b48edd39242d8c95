"""Slow, global truth about one group, computed from the declaration alone: it shares no formula with the stages.

Values and conjugates come from refined grids over y and s; the prox minimises over y on a refined grid that includes both
ends and, inside, over each weight by golden section. Nothing starts at the answer under test.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import sympy
from numpy.typing import NDArray

from perspective.block import IndicatorBlock

Array = NDArray[np.float64]
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Oracle:
    """cost: phi on arrays of s >= 0; price: c; bound: the box or inf."""

    cost: Callable[[Array], Array]
    price: float
    bound: float

    def value(self, w: Array) -> tuple[float, float]:
        """min over y of y sum phi(w/y) + c y for one group w (n,): the minimum and a minimising y."""
        a = np.abs(w)
        if not a.any():
            return 0.0, 0.0
        if a.max() > self.bound * (1 + 1e-15):
            return np.inf, 1.0
        return _refine(lambda y: self.perspective(a, y), max(min(a.max() / self.bound, 1.0), 1e-9), 1.0)

    def perspective(self, a: Array, y: Array) -> Array:
        """y sum_k phi(a_k / y) + c y for an array of y > 0."""
        return y * self.cost(a / y[:, None]).sum(axis=1) + self.price * y

    def scalar_conjugate(self, z: Array) -> Array:
        """sup over 0 <= s <= bound of |z| s - phi(s), elementwise, by golden section; inf where it grows without end."""
        z = np.abs(z)
        top = np.full_like(z, self.bound if np.isfinite(self.bound) else 1.0)
        if not np.isfinite(self.bound):
            for _ in range(60):  # concave in s: once it falls at the right end, the maximum is to the left
                rising = z * top - self.cost(top) >= z * top * 0.999 - self.cost(top * 0.999)
                top = np.where(rising & (z > 0), 2 * top, top)
        best = -_golden(lambda s: self.cost(s) - z * s, np.zeros_like(z), top)[1]
        best = np.maximum(best, z * top - self.cost(top))
        return np.where((top > 1e15) & (z > 0), np.inf, np.maximum(best, 0.0))

    def conjugate(self, z: Array) -> float:
        """sup_w z.w - r(w) = sup over y in [0, 1] of y (sum phi*(z_k) - c): linear in y, so at y = 0 or 1."""
        return float(max(0.0, self.scalar_conjugate(z).sum() - self.price))

    def prox(self, v: Array, step: float) -> tuple[Array, float]:
        """Global minimiser of |w - v|^2/2 + step r(w) for one group v (n,), and its objective."""
        a = np.abs(v)

        def objective(y: Array) -> Array:
            return self._inner(a, y, step)[1].sum(axis=1) + step * self.price * y

        best, y = _refine(objective, 1e-9, 1.0)
        at_zero = 0.5 * float(a @ a)
        if at_zero <= best:
            return np.zeros_like(v), at_zero
        s = self._inner(a, np.array([y]), step)[0][0]
        return np.sign(v) * y * s, best

    def _inner(self, a: Array, y: Array, step: float) -> tuple[Array, Array]:
        column = y[:, None]
        top = np.minimum(a / column, self.bound)  # the best y s never exceeds a
        return _golden(lambda s: 0.5 * (column * s - a) ** 2 + step * column * self.cost(s), np.zeros_like(top), top)


def consult(block: IndicatorBlock, parameters: Mapping[str, float]) -> Oracle:
    """The oracle of a block with numbers for its parameters."""
    numbers = {sympy.Symbol(name, positive=True): value for name, value in parameters.items()}
    cost = sympy.lambdify(block.weight, block.cost.subs(numbers), "numpy")
    bound = np.inf if block.bound is None else float(block.bound.subs(numbers))
    return Oracle(lambda s: cost(s) + 0.0 * s, float(block.price.subs(numbers)), bound)


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


def _golden(objective: Callable[[Array], Array], low: Array, high: Array) -> tuple[Array, Array]:
    """Golden section on every element of [low, high] at once, both ends compared too; (argument, minimum)."""
    ends = (low, high)
    for _ in range(75):
        inner = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        left = objective(inner[0]) < objective(inner[1])
        low, high = np.where(left, low, inner[0]), np.where(left, inner[1], high)
    best = (low + high) / 2
    value = objective(best)
    for end in ends:
        at_end = objective(end)
        best, value = np.where(at_end <= value, end, best), np.minimum(at_end, value)
    return best, value
