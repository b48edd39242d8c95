"""The command `perspective compare`: existing runs side by side, on the terminal, as JSON and as one page."""

import json
from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[list[Path], typer.Argument(help="run folders; unfinished ones become rows that say so")],
    out: Annotated[
        Path | None, typer.Option(help="folder to write compare.html and compare.json into; left out: only print")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print compare.json's object, and nothing else")] = False,
) -> None:
    """Accuracy, size and time of RUNS in one table, means over seeds, and accuracy against MACs with the front marked."""
    from nets.reports.compare import compare_runs
    from nets.reports.compare_report import comparison_table, write_comparison

    comparison = compare_runs(runs)
    page = None if out is None else write_comparison(comparison, out)
    if as_json:
        typer.echo(json.dumps(comparison.as_json()))
        return
    typer.echo(comparison_table(comparison))
    typer.echo(f"page: {page}" if page is not None else "add --out DIR for a page with the picture", err=page is None)
