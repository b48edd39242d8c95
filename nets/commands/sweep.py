"""The command `perspective sweep`: a grid of trainings, some at a time, and one table of what came out."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from nets.options import with_options
from perspective.errors import CheckFailed, InputError


def _sweep(
    command: Annotated[str, typer.Argument(help="train or prune")],
    out: Annotated[Path, typer.Option(help="folder for the run folders, compare.html and compare.json")],
    run: Annotated[Path | None, typer.Argument(help="of prune: run folder of an ordinary training")] = None,
    dense: Annotated[Path | None, typer.Option(help="of train: run folder or weights of the dense network")] = None,
    weights: Annotated[Path | None, typer.Option(help="of prune: weights file, with --net and --data")] = None,
    jobs: Annotated[
        int | None, typer.Option(help="cells at a time; default: one a device, or one a core; cores are shared out")
    ] = None,
    devices: Annotated[str | None, typer.Option(help="cpu, or cuda:0,cuda:1,...: each job takes one")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print compare.json's object with the cells")] = False,
    **given: Any,
) -> None:
    """Train or prune over a grid: a flag with several values, --strength 0.5,1,2 --seed 0,1,2, is an axis of it.

    Called again, it goes on: finished cells are kept, interrupted ones continue. (Train the dense network once and sweep
    `prune RUN`, where only the pruning differs.)
    """
    from nets.reports.compare import compare_runs
    from nets.reports.compare_report import comparison_table, write_comparison
    from nets.sweeps.cells import Plan, make_folders, run_cells, teller
    from nets.sweeps.grid import lay_out
    from nets.sweeps.places import count_jobs, device_flag, parse_devices

    source = _source(command, run, dense, weights)
    if source is not None and not source[1].exists():  # before any cell: all of them would say so
        raise InputError(f"there is nothing at {source[1]}; give the run folder or weights file of a trained network")
    found = parse_devices(devices)
    given["device"] = device_flag(found, given.get("device"))
    cells = lay_out("train" if command == "train" else "prune", given, None if source is None else source[1])
    plan = Plan(out, () if source is None else source[0], count_jobs(jobs, found, cells), found)
    make_folders(cells, out)
    try:
        outcomes = run_cells(cells, plan, teller(len(cells)))
    except KeyboardInterrupt:
        typer.echo("interrupted; start the same sweep again to go on", err=True)
        raise typer.Exit(130) from None
    failures = {out / outcome.cell.name: outcome.sentence for outcome in outcomes if outcome.sentence}
    comparison = compare_runs([out / cell.name for cell in cells], failures)
    page = write_comparison(comparison, out)
    if as_json:
        named = [
            {"name": cell.name, "axes": cell.axes, "failed": o.sentence}
            for cell, o in zip(cells, outcomes, strict=True)
        ]
        typer.echo(json.dumps({**comparison.as_json(), "cells": named}))
    else:
        typer.echo(comparison_table(comparison))
        typer.echo(f"page: {page}")
    failed = sum(bool(outcome.sentence) for outcome in outcomes)
    if failed:
        raise CheckFailed(f"{failed} of {len(cells)} cells did not finish; their rows say why")


sweep = with_options(_sweep, swept=True)


def _source(
    command: str, run: Path | None, dense: Path | None, weights: Path | None
) -> tuple[tuple[str, ...], Path] | None:
    """How the dense network is said on a cell's command line, and where it is."""
    if command not in ("train", "prune"):
        raise InputError(f"unknown command {command!r} to sweep; choose train or prune")
    if command == "train":
        if run is not None or weights is not None:
            raise InputError("sweep train takes no run folder; say --dense FOLDER, or sweep prune")
        return None if dense is None else (("--dense", str(dense)), dense)
    if dense is not None or (run is None) == (weights is None):
        raise InputError("sweep prune needs a trained network: give a run folder, or --weights FILE")
    return ((str(run),), run) if run is not None else (("--weights", str(weights)), Path(str(weights)))
