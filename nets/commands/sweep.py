"""The command `perspective sweep`: a grid of trainings, some at a time, and one table of what came out."""

import json
import os
from dataclasses import replace
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
    from nets.sweeps.cells import Outcome, Plan, run_cells
    from nets.sweeps.grid import lay_out

    source = _source(command, run, dense, weights)
    if source is not None and not source[1].exists():  # before any cell: all of them would say so
        raise InputError(f"there is nothing at {source[1]}; give the run folder or weights file of a trained network")
    found = _devices(devices)
    if found is not None:
        if given.get("device") is not None:
            raise InputError("give --device or --devices, not both")
        given["device"] = "cpu" if found == ("cpu",) else "cuda"
    cells = lay_out("train" if command == "train" else "prune", given, None if source is None else source[1])
    default = len(os.sched_getaffinity(0)) if found in (None, ("cpu",)) else len(found)
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs is {jobs}; it must be at least 1")
    plan = Plan(out, () if source is None else source[0], min(jobs or default, len(cells)), found)
    try:
        for cell in cells:
            (out / cell.name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {out} cannot be written ({error.strerror}); choose another --out") from error

    told: list[str] = []

    def tell(outcome: Outcome) -> None:
        told.append(outcome.cell.name)
        end = outcome.sentence or ("done" if outcome.ran else "done before")
        typer.echo(f"[{len(told)}/{len(cells)}] {outcome.cell.name}: {end}", err=True)

    try:
        outcomes = run_cells(cells, plan, tell)
    except KeyboardInterrupt:
        typer.echo("interrupted; start the same sweep again to go on", err=True)
        raise typer.Exit(130) from None
    comparison = compare_runs([out / cell.name for cell in cells])
    rows = zip(comparison.rows, outcomes, strict=True)
    comparison = replace(
        comparison,
        rows=tuple(replace(r, status="broken", note=o.sentence) if o.sentence else r for r, o in rows),
    )
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


def _devices(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    devices = tuple(word.strip() for word in text.split(","))
    gpus = all(word.startswith("cuda:") and word[5:].isdigit() for word in devices)
    if devices != ("cpu",) and not (gpus and len(set(devices)) == len(devices)):
        raise InputError(f"--devices {text!r} is not cpu or a list of different GPUs such as cuda:0,cuda:1")
    return devices
