"""One line a run, kept as JSON lines; from them the table: medians, what was proven, and ratios on what both prove."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import numpy as np

from benchmarks.solver_instances import Cell
from perspective.files import write_text

OURS = "branch"
SLACK = 1e-6  # relative: rounding and feasibility tolerances of peers


@dataclass(frozen=True)
@final
class Record:
    """One solver once on one cell. objective: of its answer, valued by the problem; None where there is no point."""

    size: int
    n_groups: int
    level: str
    seed: int
    solver: str
    round: int
    gap: float
    time_limit: float
    status: str
    objective: float | None
    lower_bound: float | None
    seconds: float
    nodes: int
    certificate: float | None = None  # the bound our own certificate proves, checked
    version: str = ""  # of the solver's package

    @property
    def cell(self) -> Cell:
        return Cell(self.size, self.n_groups, self.level, self.seed)

    @property
    def key(self) -> tuple[Cell, str, int]:
        return self.cell, self.solver, self.round

    @property
    def left(self) -> float:
        """Relative gap left, 1 where either side is missing."""
        if self.objective is None or self.lower_bound is None:
            return 1.0
        return max(0.0, (self.objective - self.lower_bound) / abs(self.objective))


def read_records(path: Path) -> list[Record]:
    """What earlier runs left, [] where there is nothing."""
    if not path.exists():
        return []
    return [Record(**json.loads(line)) for line in path.read_text().splitlines() if line]


def write_records(path: Path, records: Sequence[Record]) -> None:
    """All lines, renamed over the old file: an interrupted run loses nothing."""
    write_text(path, "".join(json.dumps(asdict(record), allow_nan=False) + "\n" for record in records))


def best_values(records: Iterable[Record]) -> dict[Cell, float]:
    """The best value any solver reached on each cell."""
    best: dict[Cell, float] = {}
    for record in records:
        if record.objective is not None:
            best[record.cell] = min(record.objective, best.get(record.cell, np.inf))
    return best


def is_wrong(record: Record, best: float) -> bool:
    """Says "optimal" and is worse than a known point by more than the gap, or claims a bound above a known point."""
    slack = SLACK * abs(best)
    if record.lower_bound is not None and record.lower_bound > best + slack:
        return True
    if record.status != "optimal":
        return False
    return record.objective is None or record.objective > best + record.gap * abs(best) + slack


def judge(records: Sequence[Record]) -> dict[tuple[Cell, str], tuple[str, float, float]]:
    """(cell, solver) -> (verdict, median seconds, gap left): proven, WRONG if any run was, else the last status."""
    best, runs = best_values(records), defaultdict[tuple[Cell, str], list[Record]](list)
    for record in records:
        runs[record.cell, record.solver].append(record)
    verdicts = {}
    for (cell, solver), group in runs.items():
        wrong = any(is_wrong(r, best.get(cell, np.inf)) for r in group)
        proven = all(r.status == "optimal" for r in group)
        verdict = "WRONG" if wrong else "proven" if proven else group[-1].status
        verdicts[cell, solver] = verdict, float(np.median([r.seconds for r in group])), max(r.left for r in group)
    return verdicts


def table(records: Sequence[Record]) -> str:
    """Markdown: a row for each level, s and p; a cell: median seconds over seeds, proven / seeds, worst gap left."""
    if not records:
        return "Nothing was measured."
    verdicts = judge(records)
    solvers = list(dict.fromkeys(r.solver for r in records))
    rows = sorted({(r.level, r.size, r.n_groups) for r in records})
    lines = ["| level | s | p | " + " | ".join(solvers) + " |", "|---" * (3 + len(solvers)) + "|"]
    for level, size, p in rows:
        shown = []
        for solver in solvers:
            found = [v for (c, name), v in verdicts.items() if name == solver and _row(c) == (level, size, p)]
            shown.append(_summary(found))
        lines.append(f"| {level} | {size} | {p} | " + " | ".join(shown) + " |")
    versions = sorted({f"{r.solver} {r.version}" for r in records if r.version})
    said = [f"- versions: {', '.join(versions)}."] if versions else []
    return "\n".join([*lines, "", *ratios(verdicts, solvers), *said])


def ratios(verdicts: dict[tuple[Cell, str], tuple[str, float, float]], solvers: Sequence[str]) -> list[str]:
    """Geometric means of peer seconds / our seconds where both prove, and who proves what the other does not."""
    lines = []
    for peer in solvers:
        if peer == OURS:
            continue
        cells = [c for c, name in verdicts if name == peer and (c, OURS) in verdicts]
        both = [c for c in cells if verdicts[c, peer][0] == verdicts[c, OURS][0] == "proven"]
        wrong = sum(verdicts[c, peer][0] == "WRONG" for c in cells)
        ours_only = sum(verdicts[c, OURS][0] == "proven" != verdicts[c, peer][0] for c in cells)
        peer_only = sum(verdicts[c, peer][0] == "proven" != verdicts[c, OURS][0] for c in cells)
        said = f"- {peer} / {OURS}: both prove {len(both)} of {len(cells)} cells"
        if both:
            shares = np.array([verdicts[c, peer][1] / max(verdicts[c, OURS][1], 1e-9) for c in both])
            said += f", {geometric_mean(shares):.3g}x in geometric mean ({shares.min():.3g} - {shares.max():.3g})"
        lines.append(f"{said}; only {OURS} proves {ours_only}, only {peer} {peer_only}; WRONG {wrong}.")
    ours_wrong = [str(c) for (c, name), v in verdicts.items() if name == OURS and v[0] == "WRONG"]
    return [*lines, f"- {OURS} WRONG: {', '.join(ours_wrong) or 'never'}."]


def geometric_mean(values: np.ndarray) -> float:
    return float(np.exp(np.mean(np.log(values))))


def _row(cell: Cell) -> tuple[str, int, int]:
    return cell.level, cell.size, cell.n_groups


def _summary(found: Sequence[tuple[str, float, float]]) -> str:
    if not found:
        return ""
    if all(verdict.startswith("too large") for verdict, _, _ in found):
        return "licence"
    proven = sum(verdict == "proven" for verdict, _, _ in found)
    text = f"{np.median([seconds for _, seconds, _ in found]):.3g} s, {proven}/{len(found)}"
    wrong = sum(verdict == "WRONG" for verdict, _, _ in found)
    left = max((gap for verdict, _, gap in found if verdict != "proven"), default=0.0)
    return (
        text + (f", left {100 * left:.2g} %" if left and not wrong else "") + (f", **{wrong} WRONG**" if wrong else "")
    )
