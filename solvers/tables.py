"""The tables of `perspective verify` and `solve`, for one layer and for a folder of them."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from solvers.chain import BoundChain
from solvers.declared import Declared
from solvers.result import Status

VERIFY_COLUMNS = ("big_m", "cone", "projected", "exact", "lower_bound", "gap_closed", "status", "seconds")
SOLVE_COLUMNS = ("status", "objective", "lower_bound", "gap", "nodes", "backend", "seconds", "certificate_holds")


def print_chain(chain: BoundChain, declared: Declared, stderr: bool = False) -> None:
    """The chain of one layer."""
    table = Table(title="Bounds on the best choice of groups", caption=_caption(declared))
    table.add_column("program")
    table.add_column("value", justify="right")
    table.add_column("below the best point", justify="right")
    rows = (
        ("big-M relaxation", chain.big_m),
        ("perspective cone (Clarabel)", chain.cone),
        ("projected regulariser (own method)", chain.projected),
        ("proved by the certificate", chain.lower_bound),
        ("best point" if chain.status is not Status.OPTIMAL else "exact optimum (HiGHS)", chain.exact),
    )
    for name, value in rows:
        below = (chain.exact - value) / max(1e-12, abs(chain.exact))
        table.add_row(name, f"{value:.8g}", f"{100 * max(below, 0.0):.3f} %")
    kept = f"keeps {sum(chain.indicators)} of {len(chain.indicators)} groups: {_numbers(chain.indicators)}"
    share = f"{100 * chain.gap_closed:.1f} % of the root gap closed by the perspective"
    Console(stderr=stderr).print(table)
    Console(stderr=stderr).print(f"{share}; status {chain.status}; {kept}; {chain.seconds:.1f} s", highlight=False)


def print_result(answer: Mapping[str, Any], declared: Declared) -> None:
    """The exact choice of one layer."""
    table = Table(title="The best choice of groups", caption=_caption(declared), show_header=False)
    for name in ("status", "objective", "lower_bound", "gap", "nodes", "backend", "seconds", "certificate_holds"):
        value = answer[name]
        table.add_row(name.replace("_", " "), f"{value:.8g}" if isinstance(value, float) else str(value))
    table.add_row("groups kept", _numbers(answer["indicators"]))
    for note in answer["notes"]:
        table.add_row("note", note)
    Console().print(table)


def print_folder(answers: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str) -> None:
    """One row a problem; a failed one says why."""
    table = Table(title=title)
    table.add_column("file", no_wrap=True)
    for name in columns:
        table.add_column(name.replace("_", " "), justify="right")
    table.add_column("kept", justify="right")
    failed = [answer for answer in answers if "error" in answer]
    for answer in answers:
        if "error" in answer:
            table.add_row(answer["file"], "failed")
            continue
        cells = [f"{answer[n]:.6g}" if isinstance(answer[n], float) else str(answer[n]) for n in columns]
        table.add_row(answer["file"], *cells, f"{sum(answer['indicators'])} of {len(answer['indicators'])}")
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    for answer in failed:
        console.print(f"{answer['file']}: {answer['error']}", highlight=False, markup=False, soft_wrap=True)


def _numbers(indicators: Sequence[int]) -> str:
    return " ".join(str(j) for j, kept in enumerate(indicators) if kept) or "none"


def _caption(declared: Declared) -> str:
    problem = declared.problem
    size = f"{len(problem.X)} samples, {problem.X.shape[1]} inputs in {problem.n_groups} groups"
    size += f", {problem.targets2d.shape[1]} output(s), strength {problem.strength:g}"
    if problem.loss != "squared":
        size += f", {problem.loss} loss"
    if declared.problem.at_most is not None:
        size += f", at most {declared.problem.at_most} groups"
    values = ", ".join(
        f"{name} = {value:.4g}{' (chosen here)' if name in declared.chosen else ''}"
        for name, value in declared.parameters.items()
    )
    return size + ("\n" + values if values else "")
