"""How fast is the projected relaxation with its certificate, against the same relaxation in cvxpy with Clarabel?

python -m benchmarks.relaxations [--shapes 1x256,4x64,9x32,9x64] [--levels easy,hard] [--seeds 0,1,2] [--rounds 5] [--out FOLDER]

Ours: from the data to a value whose dual certificate is within 1e-6 of it, checked after the clock. cvxpy: the perspective
as second-order cones on the QR-reduced data, from building the model to the answer, as a user meets it; Clarabel's own
seconds, without cvxpy, stand beside it. Interleaved rounds after one untimed round; ratios are taken within a round. The
two values must agree to 1e-5, or nothing is reported.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, final

import cvxpy as cp
import numpy as np

from benchmarks.environment import command_line, environment, keep
from benchmarks.exact_records import geometric_mean
from benchmarks.solver_instances import RIDGES, Cell, make_instance
from perspective.errors import CheckFailed
from solvers import LayerProblem
from solvers.projected import solve_projected

TOLERANCE = 1e-6
AGREE = 1e-5


@dataclass(frozen=True)
@final
class Measured:
    """Seconds (rounds,) of both, and of Clarabel alone; the relative gap our certificate leaves."""

    cell: Cell
    ours: np.ndarray
    cvxpy: np.ndarray
    clarabel: np.ndarray
    gap: float


def solve_in_cvxpy(problem: LayerProblem) -> tuple[float, float]:
    """Value, and Clarabel's own seconds. Default tolerances (1e-8), which is what 1e-6 in the value needs."""
    (R, t, rest), (ridge, price) = _reduce(problem), _prices(problem)
    w, y = cp.Variable(problem.X.shape[1]), cp.Variable(problem.n_groups)
    bound = problem.regulariser.bound
    cost = cp.sum_squares(R @ w - t) + price * cp.sum(y)
    cost += ridge * sum(cp.quad_over_lin(w[m], y[j]) for j, m in enumerate(problem.members))
    constraints = [y >= 0, y <= 1, cp.abs(w) <= bound * y[problem.labels]]
    program = cp.Problem(cp.Minimize(cost), constraints)
    program.solve(solver=cp.CLARABEL, max_threads=1)
    if program.status != cp.OPTIMAL:
        raise CheckFailed(f"Clarabel ended with {program.status}; leave this instance out")
    return float(program.value) + rest, float(program.solver_stats.solve_time)


def measure(cell: Cell, rounds: int) -> Measured:
    """Interleaved; CheckFailed where the values differ or our certificate is short of TOLERANCE."""
    problem, seconds, gap = make_instance(cell), [], 0.0
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        ours = solve_projected(problem, tolerance=TOLERANCE)
        middle = time.perf_counter()
        value, alone = solve_in_cvxpy(problem)
        seconds.append((middle - begin, time.perf_counter() - middle, alone))
        assert ours.certificate is not None
        ours.certificate.check(problem)
        gap = max(gap, (ours.objective - ours.certificate.bound) / abs(ours.objective))
        if gap > TOLERANCE or abs(ours.objective - value) > AGREE * abs(value):
            raise CheckFailed(f"{cell}: {ours.objective!r} (gap {gap:.1e}) against {value!r}; mend before timing")
    return Measured(cell, *np.array(seconds[1:]).T, gap=gap)


def table(results: list[Measured]) -> str:
    """Markdown: medians over rounds and seeds, ratios with their range over seeds."""
    lines = [
        "| level | s | p | ours, ms | cvxpy, ms | Clarabel alone, ms | cvxpy / ours (goal >= 30) | Clarabel alone / ours |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for level, size, p in sorted({(m.cell.level, m.cell.size, m.cell.n_groups) for m in results}):
        row = [m for m in results if (m.cell.level, m.cell.size, m.cell.n_groups) == (level, size, p)]
        times = [
            f"{1e3 * np.median([np.median(getattr(m, name)) for m in row]):.3g}"
            for name in ("ours", "cvxpy", "clarabel")
        ]
        shares = [np.array([np.median(getattr(m, name) / m.ours) for m in row]) for name in ("cvxpy", "clarabel")]
        ranges = [f"{geometric_mean(x):.3g} ({x.min():.3g} - {x.max():.3g})" for x in shares]
        lines.append(f"| {level} | {size} | {p} | " + " | ".join((*times, *ranges)) + " |")
    overall = geometric_mean(np.array([np.median(m.cvxpy / m.ours) for m in results]))
    rounds = len(results[0].ours)
    return "\n".join(
        [
            *lines,
            "",
            f"Geometric mean of cvxpy / ours over {len(results)} instances: {overall:.3g}; {rounds} rounds each.",
        ]
    )


def _reduce(problem: LayerProblem) -> tuple[np.ndarray, np.ndarray, float]:
    """R, t, rest with ||X w - y||^2 = ||R w - t||^2 + rest, as few rows as possible: Clarabel's time depends on them."""
    X, y = problem.X, problem.Y
    if len(X) <= X.shape[1]:
        return X, y, 0.0
    Q, R = np.linalg.qr(X)
    return R, Q.T @ y, float(np.sum(y**2) - np.sum((Q.T @ y) ** 2))


def _prices(problem: LayerProblem) -> tuple[float, float]:
    assert problem.regulariser.quadratic is not None
    return problem.strength * problem.regulariser.quadratic[0], problem.strength * problem.regulariser.price


def main() -> None:
    """Parse, measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.relaxations", description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", default="1x256,4x64,9x32,9x64", help="group size x groups")
    parser.add_argument("--levels", default=",".join(RIDGES))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder for table.md and environment.md")
    options = parser.parse_args()
    shapes: list[Any] = [tuple(map(int, shape.split("x"))) for shape in options.shapes.split(",")]
    results = []
    for (size, p), level, seed in product(shapes, options.levels.split(","), map(int, options.seeds.split(","))):
        results.append(measure(Cell(size, p, level, seed), options.rounds))
        last = results[-1]
        print(f"{last.cell}: {np.median(last.ours):.4f} s, cvxpy {np.median(last.cvxpy):.4f} s", file=sys.stderr)
    text = table(results)
    print(text)
    if options.out is not None:
        keep(
            options.out,
            text,
            environment(command_line("benchmarks.relaxations"), ("numpy", "scipy", "numba", "cvxpy", "clarabel")),
        )


if __name__ == "__main__":
    main()
