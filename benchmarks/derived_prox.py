"""How fast is the derived prox? Against a loop over rows with scipy, and against numpy written by hand for one cost.

python -m benchmarks.derived_prox [--rows 100000] [--rounds 9] [--out FOLDER]

All three compute the same map (checked to 1e-7 before anything is timed). They run interleaved, one after the other in
every round; a ratio is the median over rounds of the ratio within a round. The loop is timed on LOOP_ROWS rows and scaled.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from benchmarks.environment import environment, keep
from perspective import CheckFailed, derive
from perspective.catalogue.elastic import elastic
from perspective.catalogue.spr import spr

Array = NDArray[np.float64]
LOOP_ROWS = 200
SIZE = 9
STEP = 0.3
ALPHA, BETA, PRICE, BOUND = 0.3, 0.2, 0.7, 1.5


def spr_by_hand(v: Array, step: float) -> Array:
    """alpha s^2, price 1 - alpha, box: one equation in u = y + t a row, t = 2 step alpha.

    Newton on the rows that need it, from the root without a box, which is not below the root: exact where no weight is cut.
    """
    price = (1 - ALPHA) * step
    t = 2 * step * ALPHA
    a = np.abs(v)

    def spent(a: Array, u: Array) -> tuple[Array, Array]:
        """sum_k of the two cases of the equation, and minus its derivative in u."""
        cut = a > BOUND * u
        ratio = a / u
        np.copyto(ratio, BOUND, where=cut)  # s_k
        square = np.einsum("ij,ij->i", ratio, ratio)
        over = np.where(cut, a - BOUND * u, 0.0).sum(axis=1)
        hits = cut.sum(axis=1)
        slope = BOUND**2 * hits + t * (square - BOUND**2 * hits) / u[:, 0]
        return t / 2 * square + BOUND * over, slope

    answer = np.zeros_like(v)
    alive = np.flatnonzero(spent(a, np.full((len(a), 1), t))[0] > price)
    inner = spent(a[alive], np.full((len(alive), 1), 1 + t))[0] < price
    u = np.full(len(alive), 1 + t)
    rows = np.flatnonzero(inner)
    part = a[alive[rows]]
    root = np.sqrt(t / 2 / price * np.einsum("ij,ij->i", part, part))[:, None]
    for _ in range(60):
        value, slope = spent(part, root)
        move = (value - price) / slope
        u[rows] = root[:, 0]
        busy = np.abs(move) > 4e-16 * root[:, 0]
        if not busy.any():
            break
        rows, part, root = rows[busy], part[busy], np.maximum(root[:, 0] + move, t)[busy, None]
    u = u[:, None]
    chosen = v[alive]
    answer[alive] = np.clip(chosen / u, -BOUND, BOUND) * (u - t)
    return answer


def elastic_by_hand(v: Array, step: float) -> Array:
    """alpha s^2 + beta s, no box: soft threshold, then y from the Euclidean norm in closed form."""
    t = 2 * step * ALPHA
    soft = np.abs(v)
    soft -= step * BETA
    np.maximum(soft, 0.0, out=soft)
    norm = np.sqrt(np.einsum("ij,ij->i", soft, soft))
    y = np.clip(norm * np.sqrt(ALPHA / PRICE) - t, 0.0, 1.0)
    soft *= (y / (y + t))[:, None]
    return np.copysign(soft, v) + 0.0


def row_by_row(v: Array, step: float, beta: float, price: float, bound: float) -> Array:
    """scipy's bounded scalar minimiser over y, each weight in closed form, row after row."""
    t = 2 * step * ALPHA
    answer = np.zeros_like(v)
    for i, row in enumerate(v):
        soft = np.sign(row) * np.maximum(np.abs(row) - step * beta, 0.0)

        def weights(y: float, soft: Array = soft) -> Array:
            return np.clip(soft * (y / (y + t)), -bound * y, bound * y)

        def objective(y: float, row: Array = row, weights: Callable[[float], Array] = weights) -> float:
            w = weights(y)
            distance = w - row
            return float(
                0.5 * (distance @ distance) + step * (ALPHA * (w @ w) / y + beta * np.abs(w).sum() + price * y)
            )

        best = minimize_scalar(objective, bounds=(1e-12, 1.0), method="bounded", options={"xatol": 1e-9})
        y = 1.0 if objective(1.0) <= best.fun else float(best.x)
        if objective(y) < 0.5 * float(row @ row):
            answer[i] = weights(y)
    return answer


@dataclass(frozen=True)
class Subject:
    """One cost: the derived map, the hand-written one, and the loop."""

    name: str
    derived: Callable[[Array, float], Array]
    by_hand: Callable[[Array, float], Array]
    loop: Callable[[Array, float], Array]


SUBJECTS = (
    Subject(
        "SPR, box",
        derive(spr()).bind(alpha=ALPHA, M=BOUND).prox,
        spr_by_hand,
        lambda v, step: row_by_row(v, step, 0.0, 1 - ALPHA, BOUND),
    ),
    Subject(
        "elastic, no box",
        derive(elastic(bounded=False)).bind(alpha=ALPHA, beta=BETA, c=PRICE).prox,
        elastic_by_hand,
        lambda v, step: row_by_row(v, step, BETA, PRICE, np.inf),
    ),
)


@dataclass(frozen=True)
class Measured:
    """Seconds of every round; loop already scaled to all rows."""

    subject: Subject
    derived: Array
    by_hand: Array
    loop: Array
    shares: str


def groups(rows: int) -> Array:
    """Gaussian groups whose size spreads over two decades, so that every case of the map occurs."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, SIZE)) * 10 ** rng.uniform(-1.2, 0.8, size=(rows, 1))


def check(subject: Subject, v: Array) -> None:
    """All three agree; CheckFailed otherwise."""
    truth = subject.by_hand(v, STEP)
    gap = float(np.abs(subject.derived(v, STEP) - truth).max())
    slow = float(np.abs(subject.loop(v[:LOOP_ROWS], STEP) - truth[:LOOP_ROWS]).max())
    if gap > 1e-12 or slow > 1e-6:
        raise CheckFailed(
            f"{subject.name}: the maps differ, derived by {gap:.1e}, loop by {slow:.1e}; mend before timing"
        )


def measure(subject: Subject, v: Array, rounds: int) -> Measured:
    """Interleaved rounds, after one untimed call of each."""
    check(subject, v)
    seconds = np.array(
        [[_time(f, v) for f in (subject.derived, subject.by_hand)] + [_loop(subject, v)] for _ in range(rounds)]
    )
    w = subject.derived(v, STEP)
    zero = ~w.any(axis=1)
    return Measured(subject, *seconds.T, shares=f"{zero.mean():.0%} of the groups become zero")


def table(results: list[Measured], rows: int) -> str:
    """Markdown."""
    lines = [
        f"prox of a ({rows}, {SIZE}) float64 array, step {STEP}; medians of {len(results[0].derived)} interleaved rounds "
        "(smallest - largest). The loop is timed on "
        f"{LOOP_ROWS} rows and multiplied by {rows / LOOP_ROWS:g}.",
        "",
        "| cost | derived, ms | by hand, ms | loop over rows, s | loop / derived (goal >= 50) | derived / by hand (goal <= 3) |",
        "|---|---|---|---|---|---|",
    ]
    for m in results:
        cells = (
            m.subject.name,
            _spread(m.derived * 1e3, 1),
            _spread(m.by_hand * 1e3, 1),
            _spread(m.loop, 1),
            _spread(m.loop / m.derived, 0),
            _spread(m.derived / m.by_hand, 2),
        )
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"{m.subject.name}: {m.shares}." for m in results)]
    return "\n".join(lines)


def main() -> None:
    """Parse, measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.derived_prox", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, help="folder for table.md and environment.md")
    options = parser.parse_args()
    v = groups(options.rows)
    text = table([measure(subject, v, options.rounds) for subject in SUBJECTS], options.rows)
    print(text)
    if options.out is not None:
        command = f"python -m benchmarks.derived_prox --rows {options.rows} --rounds {options.rounds}"
        keep(options.out, text, environment(command, ("numpy", "scipy", "sympy")))


def _time(prox: Callable[[Array, float], Array], v: Array) -> float:
    start = time.perf_counter()
    prox(v, STEP)
    return time.perf_counter() - start


def _loop(subject: Subject, v: Array) -> float:
    return _time(subject.loop, v[:LOOP_ROWS]) * len(v) / LOOP_ROWS


def _spread(values: Array, digits: int) -> str:
    low, middle, high = (f"{x:.{digits}f}" for x in (values.min(), np.median(values), values.max()))
    return f"{middle} ({low} - {high})"


if __name__ == "__main__":
    main()
