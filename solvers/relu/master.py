"""A ReLU layer in HiGHS: a MILP whose rows are exact but for the convex functions, which grow tangents.

Binaries y (groups) and d (predictions with a positive target); weights V; activations a >= max(0, z), z = X W linear in V:
    a >= z,  a >= 0;   Y > 0 also:  a <= z - low (1 - d),  a <= high d;      |V| <= box y;      sum y <= at_most
    loss        s >= Y^2 + 2 (t - Y) a - t^2 d      (Y <= 0: d replaced by 1, t >= 0)
    group cost  q >= v w - y phi*(v)                                          for every t, every slope v
Both are perspective cuts (Frangioni and Gentile 2006): tangents of d ((a/d) - Y)^2 + (1 - d) Y^2 and of y phi(w / y).
For Y <= 0 the loss does not fall with a, so a = max(0, z) at the optimum without a binary. Everything in units of the data.
"""

from typing import Any, NamedTuple, final

import numpy as np

from solvers.box import weight_bound
from solvers.cuts import load_highspy
from solvers.highs_run import run_highs
from solvers.problem import Array, LayerProblem
from solvers.relu.loss import relu_loss
from solvers.relu.ranges import Ranges
from solvers.result import Status

FEASIBILITY = 1e-9
NEGLIGIBLE = 1e-9  # a cut violated by less, in units of the largest possible objective, is not added
SMALLEST = 1e-6


class Proposal(NamedTuple):
    """A solution of the model in the problem's units: y (p,), d, a, s (n, o), weights and their q (d, o)."""

    y: Array
    d: Array
    weights: Array
    a: Array
    s: Array
    q: Array


@final
class ReluMaster:
    """The HiGHS model (mutable). `ranges` must hold for every point that matters: those up to its cutoff."""

    def __init__(self, problem: LayerProblem, ranges: Ranges) -> None:
        self.problem, self.highspy = problem, load_highspy()
        X, Y = problem.X, problem.targets2d
        self.low, self.high = ranges.of(np.zeros(problem.n_groups, dtype=np.int8))
        self.unit = float(np.sum(Y**2)) or 1.0
        self.size = float(np.sqrt(np.mean(Y**2))) or 1.0
        columns = np.sqrt(np.mean(X**2, axis=0))
        self.column = np.where(columns > 0, columns, 1.0)[:, None]
        self.box = weight_bound(problem, ranges.cutoff)
        p, n, o, d = problem.n_groups, *Y.shape, X.shape[1]
        self.binary = (Y > 0) & (self.high > 0)
        ends = np.cumsum([0, p, n * o, d * o, n * o, n * o, d * o])
        self.at_y, self.at_d, self.at_w, self.at_a, self.at_s, self.at_q = (
            np.arange(first, last).reshape(shape)
            for first, last, shape in zip(ends, ends[1:], [p, (n, o), (d, o), (n, o), (n, o), (d, o)], strict=False)
        )
        self.width = int(ends[-1])
        self.model = self._columns()
        self._rows()

    def _columns(self) -> Any:
        h, inf = self.highspy.Highs(), self.highspy.kHighsInf
        for name, setting in (
            ("output_flag", False),
            ("threads", 1),
            ("primal_feasibility_tolerance", FEASIBILITY),
            ("dual_feasibility_tolerance", FEASIBILITY),
            ("mip_feasibility_tolerance", FEASIBILITY),
            ("mip_abs_gap", 0.0),
        ):
            h.setOptionValue(name, setting)
        cost, low, high = np.zeros(self.width), np.zeros(self.width), np.full(self.width, inf)
        cost[self.at_y] = self.problem.strength * self.problem.regulariser.price / self.unit
        cost[self.at_s], cost[self.at_q] = self.size**2 / self.unit, 1.0
        high[self.at_y] = 1.0
        high[self.at_d] = self.binary
        edge = np.broadcast_to(self.box * self.column / self.size, self.at_w.shape)
        low[self.at_w], high[self.at_w] = -edge, edge
        high[self.at_a] = np.maximum(self.high, 0.0) / self.size
        h.addVars(self.width, low, high)
        h.changeColsCost(self.width, np.arange(self.width, dtype=np.int32), cost)
        return h

    def _rows(self) -> None:
        X, size, inf = self.problem.X, self.size, self.highspy.kHighsInf
        rows: list[tuple[float, float, list[int], list[float]]] = []
        coefficients = X / self.column.T
        for (i, o), a in np.ndenumerate(self.at_a):
            w, x, low = self.at_w[:, o].tolist(), (-coefficients[i]).tolist(), float(self.low[i, o]) / size
            rows.append((0.0, inf, [int(a), *w], [1.0, *x]))
            if self.binary[i, o]:
                d = int(self.at_d[i, o])
                rows.append((-inf, -low, [int(a), *w, d], [1.0, *x, -low]))
                rows.append((-inf, 0.0, [int(a), d], [1.0, -float(self.high[i, o]) / size]))
        for (k, _), w in np.ndenumerate(self.at_w):
            y, edge = int(self.at_y[self.problem.labels[k]]), float(self.box * self.column[k, 0] / size)
            rows += [(-inf, 0.0, [int(w), y], [1.0, -edge]), (-inf, 0.0, [int(w), y], [-1.0, -edge])]
        if self.problem.at_most is not None:
            rows.append((0.0, float(self.problem.at_most), self.at_y.tolist(), [1.0] * len(self.at_y)))
        self._add(rows)

    def _add(self, rows: list[tuple[float, float, list[int], list[float]]]) -> None:
        if rows:
            starts = np.cumsum([0, *(len(r[2]) for r in rows)])[:-1].astype(np.int32)
            index = np.array([k for r in rows for k in r[2]], dtype=np.int32)
            values = np.array([v for r in rows for v in r[3]])
            low, high = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
            self.model.addRows(len(rows), low, high, len(index), starts, index, values)

    def cut(self, at: Proposal) -> int:
        """Add the tangents at a point that it violates; how many. A point with s = q = -inf gets all of them."""
        rows: list[tuple[float, float, list[int], list[float]]] = []
        inf, Y, size, labels = self.highspy.kHighsInf, self.problem.targets2d, self.size, self.problem.labels
        d = np.where(self.binary, np.maximum(at.d, SMALLEST), 1.0)
        t = np.clip(at.a / d, 0.0, np.maximum(self.high, 0.0))
        needed = Y**2 + 2 * (t - Y) * at.a - t**2 * np.where(self.binary, at.d, 1.0)
        for i, o in np.argwhere(needed - at.s > NEGLIGIBLE * self.unit):
            tangent, target = float(t[i, o]) / size, float(Y[i, o]) / size
            index, values = [int(self.at_s[i, o]), int(self.at_a[i, o])], [1.0, -2 * (tangent - target)]
            if self.binary[i, o]:
                rows.append((target**2, inf, [*index, int(self.at_d[i, o])], [*values, tangent**2]))
            else:
                rows.append((target**2 - tangent**2, inf, index, values))
        r, strength = self.problem.regulariser, self.problem.strength
        y = np.maximum(at.y, SMALLEST)[labels][:, None]
        slope = np.copysign(r.cost_derivative(np.minimum(np.abs(at.weights) / y, self.box)), at.weights)
        slope = np.where(np.isfinite(slope), slope, 0.0)
        conjugate = r.cost_conjugate(slope)
        needed = strength * (slope * at.weights - at.y[labels][:, None] * conjugate)
        for k, o in np.argwhere((needed - at.q > NEGLIGIBLE * self.unit) & np.isfinite(conjugate)):
            v = strength * float(slope[k, o]) * size / float(self.column[k, 0]) / self.unit
            price = strength * float(conjugate[k, o]) / self.unit
            columns = [int(self.at_q[k, o]), int(self.at_w[k, o]), int(self.at_y[labels[k]])]
            rows.append((0.0, inf, columns, [1.0, -v, price]))
        self._add(rows)
        return len(rows)

    def touch(self, weights: Array) -> int:
        """The tangents at weights (d, o) themselves, y = d = 1."""
        a = np.maximum(self.problem.X @ weights, 0.0)
        nothing = np.full_like(a, -np.inf)
        ones = np.ones(self.problem.n_groups)
        return self.cut(Proposal(ones, np.ones_like(a), weights, a, nothing, np.full_like(weights, -np.inf)))

    def relax(self, relaxed: bool) -> None:
        """Let the binaries be fractional, or not."""
        kind = self.highspy.HighsVarType.kContinuous if relaxed else self.highspy.HighsVarType.kInteger
        columns = np.append(self.at_y, self.at_d[self.binary]).astype(np.int32)
        self.model.changeColsIntegrality(len(columns), columns, np.full(len(columns), int(kind), dtype=np.uint8))

    def solve(self, seconds: float, gap: float, start: Array | None = None) -> Status:
        """Run, from known weights if given."""
        if start is not None:
            solution = self.highspy.HighsSolution()
            solution.col_value = self._written(start).tolist()
            self.model.setSolution(solution)
        return run_highs(self.highspy, self.model, seconds, gap)

    def _written(self, weights: Array) -> Array:
        """All columns at known weights, with the true values of s and q, which satisfy every tangent."""
        problem, values = self.problem, np.zeros(self.width)
        z = problem.X @ weights
        values[self.at_y], values[self.at_d] = problem.kept(weights), self.binary & (z > 0)
        values[self.at_w], values[self.at_a] = weights * self.column / self.size, np.maximum(z, 0.0) / self.size
        values[self.at_s] = relu_loss(z, problem.targets2d) / self.size**2 + 1e-9
        values[self.at_q] = problem.strength * problem.regulariser.cost(weights) / self.unit * (1 + 1e-9)
        return values

    def proposal(self) -> Proposal:
        """The solution of the last run."""
        x = np.array(self.model.getSolution().col_value)
        weights = x[self.at_w] / self.column * self.size
        a, s = x[self.at_a] * self.size, x[self.at_s] * self.size**2
        return Proposal(x[self.at_y], x[self.at_d], weights, a, s, x[self.at_q] * self.unit)

    def value(self) -> float:
        """The last run's LP value, in the problem's units."""
        return self.unit * float(self.model.getInfo().objective_function_value)

    def lower_bound(self) -> float:
        """HiGHS's dual bound of the last run, in the problem's units."""
        return self.unit * float(self.model.getInfo().mip_dual_bound)
