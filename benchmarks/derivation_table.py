"""What is derived for each cost, how long it takes, and how far the result is from the truth.

python -m benchmarks.derivation_table [--cases 40] [--out FOLDER]

Seconds: the derivation alone, once, in a fresh process, past the disk cache (imports are not counted). Errors: the worst over
random groups, against the oracle (which knows only the declaration) and, where the cost has a conic form, against
Clarabel. The oracle's own search leaves about 1e-7 in a point, and Clarabel's about 1e-5; objectives are sharper.
"""

import argparse
import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sympy

from benchmarks.environment import environment, keep
from perspective import IndicatorBlock, NumericRegularizer, Regularizer, derive
from perspective.catalogue import ALL
from perspective.derive import derive_afresh
from perspective.oracle import consult
from tests.perspective.conic_group import FAMILIES, ConicGroup, pose

s, alpha, c, q, M = sympy.symbols("s alpha c q M", positive=True)
NUMBERS = {"alpha": 0.3, "beta": 0.2, "c": 0.7, "M": 1.5, "d": 0.4, "q": 0.7, "U": 1.2, "L": 0.5}
SYMBOLIC_POWER = {
    "power 1 + q, symbolic": IndicatorBlock(alpha * s ** (1 + q), s, c),
    "power 1 + q, symbolic, in a box": IndicatorBlock(alpha * s ** (1 + q), s, c, M),
}
CONIC_CASES = 5


@dataclass(frozen=True)
class Row:
    """One cost. Errors are relative: objectives to |v|^2 / 2, points to |v|, values to themselves; None: no conic form."""

    name: str
    regularizer: Regularizer
    seconds: float
    value: float
    objective: float
    point: float
    conic_objective: float | None
    conic_point: float | None


def blocks() -> dict[str, tuple[IndicatorBlock, str | None]]:
    """{name: (block, name of its conic family)}: everything with a conic form, what else ships, the symbolic power."""
    found: dict[str, tuple[IndicatorBlock, str | None]] = {
        name: (family.block, name) for name, family in FAMILIES.items() if name not in ("one weight", "a large group")
    }
    known = [block for block, _ in found.values()]
    found |= {make.__name__.replace("_", " "): (make(), None) for make in ALL if make() not in known}
    return found | {name: (block, None) for name, block in SYMBOLIC_POWER.items()}


def seconds_to_derive(block: IndicatorBlock) -> float:
    """Of the first derivation in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_derive_once, (block,))


def measure(name: str, block: IndicatorBlock, family: str | None, cases: int) -> Row:
    """Derive, bind at NUMBERS, and compare at random groups."""
    regularizer = derive(block)
    numbers = {parameter: NUMBERS[parameter] for parameter in block.parameters}
    number, oracle = regularizer.bind(**numbers), consult(block, numbers)
    rng = np.random.default_rng(0)
    value = objective = point = 0.0
    for _ in range(cases):
        v, step = _case(rng, number, int(rng.integers(1, 10)))
        mine = number.prox(v, step)
        best, truth = oracle.prox(v, step)
        inside = mine * (1 - 4e-16)  # rounding may put |w|_2 an ulp past a ball
        at_mine = oracle.value(inside)[0]
        half = 0.5 * float(v @ v)
        objective = max(objective, (0.5 * float((mine - v) @ (mine - v)) + step * at_mine - truth) / half)
        point = max(point, float(np.linalg.norm(mine - best)) / (2 * half) ** 0.5)
        if mine.any():
            value = max(value, abs(float(number.value(inside)) - at_mine) / at_mine)
    conic = (None, None) if family is None else _against_cones(pose(family), number, numbers)
    return Row(name, regularizer, seconds_to_derive(block), value, objective, point, *conic)


def table(rows: list[Row], cases: int) -> str:
    """Markdown."""
    lines = [
        f"Worst relative errors of {cases} random groups of 1 to 9 weights (oracle) and {CONIC_CASES} groups (Clarabel).",
        "",
        "| cost | phi(s) | pieces | y* | prox | derive, s | value | prox objective | prox point | "
        "prox objective, conic | prox point, conic |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        proximal, block = row.regularizer.proximal, row.regularizer.block
        weights = "w_k(y) closed" if proximal.shrunk is not None else "w_k(y) by Newton"
        cells = (
            row.name,
            f"`{block.cost}`" + (" of the norm" if block.radial else ""),
            ", ".join(piece.name for piece in row.regularizer.pieces),
            "one equation" if row.regularizer.projection.stationary is None else "closed",
            "closed" if proximal.solution is not None else f"one equation in y, {weights}",
            f"{row.seconds:.2f}",
            *(_error(x) for x in (row.value, row.objective, row.point, row.conic_objective, row.conic_point)),
        )
        lines.append("| " + " | ".join(cells) + " |")
    slowest = max(rows, key=lambda row: row.seconds)
    return "\n".join([*lines, "", f"Slowest derivation: {slowest.name}, {slowest.seconds:.2f} s (goal < 10 s)."])


def main() -> None:
    """Parse, measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.derivation_table", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--out", type=Path, help="folder for table.md and environment.md")
    options = parser.parse_args()
    rows = [measure(name, block, family, options.cases) for name, (block, family) in blocks().items()]
    text = table(rows, options.cases)
    print(text)
    if options.out is not None:
        command = f"python -m benchmarks.derivation_table --cases {options.cases}"
        keep(options.out, text, environment(command, ("numpy", "sympy", "cvxpy", "clarabel")))


def _derive_once(block: IndicatorBlock) -> float:
    start = time.perf_counter()
    derive_afresh(block)
    return time.perf_counter() - start


def _case(rng: np.random.Generator, number: NumericRegularizer, size: int) -> tuple[np.ndarray, float]:
    """A group, and a step between far below and just above the one that removes it."""
    v = rng.normal(size=size) * 10 ** rng.uniform(-1, 1)
    return v, float(number.zero_threshold(v)) * rng.uniform(0.02, 1.05) or 1.0


def _against_cones(group: ConicGroup, number: NumericRegularizer, numbers: dict[str, float]) -> tuple[float, float]:
    rng = np.random.default_rng(1)
    objective = point = 0.0
    for _ in range(CONIC_CASES):
        v, step = _case(rng, number, group.target.size)
        v, step = v / np.abs(v).max(), step / np.abs(v).max()  # Clarabel's tolerance is absolute
        truth, best = group.prox(v, step, numbers)
        mine = number.prox(v, step)
        at_mine = 0.5 * float((mine - v) @ (mine - v)) + step * float(number.value(mine * (1 - 4e-16)))
        objective = max(objective, abs(at_mine - truth) / (0.5 * float(v @ v)))
        point = max(point, float(np.linalg.norm(mine - best) / np.linalg.norm(v)))
    return objective, point


def _error(x: float | None) -> str:
    return "-" if x is None else f"{max(x, 0.0):.0e}"


if __name__ == "__main__":
    main()
