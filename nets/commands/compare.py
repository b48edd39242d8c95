"""The command `perspective compare`: existing runs side by side, or several methods run under one protocol."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nets.commands.train import SHAPE
from nets.options import with_options
from nets.settings import flag
from perspective.errors import CheckFailed, InputError

if TYPE_CHECKING:
    from nets.sweeps.protocol import Protocol


def _compare(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="run folders; unfinished ones become rows that say so")
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="instead of RUNS: methods to run, for example spr,magnitude")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="of --methods: shares to keep, for example macs=0.5,0.3")] = None,
    seeds: Annotated[int, typer.Option(help="of --methods: how many; 3 stands for 0, 1, 2")] = 1,
    epochs: Annotated[int | None, typer.Option(help="of --methods: epochs E under a method's penalty")] = None,
    finetune_epochs: Annotated[
        int | None, typer.Option(help="epochs F after removal; default: E. Methods without a penalty get E + F")
    ] = None,
    dense_epochs: Annotated[int | None, typer.Option(help="epochs of the dense network of each seed")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="run folder or weights file to take as the dense network of every seed")
    ] = None,
    own: Annotated[
        list[str] | None, typer.Option(help="METHOD:FLAG=VALUE, for example greg2:lr=0.001; may be repeated")
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="cells at a time; default: one a device, or one a core")] = None,
    devices: Annotated[str | None, typer.Option(help="cpu, or cuda:0,cuda:1,...: each job takes one")] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder for compare.html and compare.json (and the runs of --methods)")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print compare.json's object, and nothing else")] = False,
    **given: Any,
) -> None:
    """Accuracy, size and time of RUNS in one table, means over seeds, and accuracy against MACs with the front marked.

    With --methods the runs are made: the same dense network for a seed, the same budgets, the same number of epochs. Called
    again, it goes on; a cell that fails is a row that says why.
    """
    if methods is None:
        of_methods = {
            "budget": budget,
            "epochs": epochs,
            "weights": weights,
            "jobs": jobs,
            "devices": devices,
            "own": own or None,
        }
        said = [flag(name) for name, value in {**of_methods, **given}.items() if value is not None]
        if said:
            raise InputError(f"{said[0]} trains runs, which takes --methods; leave it out to compare existing ones")
        _compare_runs(runs or [], out, as_json)
        return
    if runs:
        raise InputError("give run folders or --methods, not both")
    if out is None or budget is None:
        raise InputError("--methods needs --budget and --out, for example --budget macs=0.5 --out comparison")
    lengths = {"epochs": epochs, "finetune_epochs": finetune_epochs, "dense_epochs": dense_epochs}
    if seeds < 1:
        raise InputError(f"--seeds is {seeds}; it must be at least 1")
    from nets.sweeps.places import device_flag, parse_devices

    found = parse_devices(devices)
    given["device"] = device_flag(found, given.get("device"))
    protocol = _protocol(methods, budget, seeds, lengths, weights, own or [], given)
    _compare_methods(protocol, out, jobs, found, as_json)


compare = with_options(_compare, without=("method", "seed", "recipe", "scale_epochs"))


def _compare_runs(runs: list[Path], out: Path | None, as_json: bool) -> None:
    from nets.reports.compare import compare_runs
    from nets.reports.compare_report import comparison_table, write_comparison

    comparison = compare_runs(runs)
    page = None if out is None else write_comparison(comparison, out)
    if as_json:
        typer.echo(json.dumps(comparison.as_json()))
        return
    typer.echo(comparison_table(comparison))
    typer.echo(f"page: {page}" if page is not None else "add --out DIR for a page with the picture", err=page is None)


def _protocol(
    methods: str,
    budget: str,
    seeds: int,
    lengths: Mapping[str, int | None],
    weights: Path | None,
    own: Sequence[str],
    given: Mapping[str, Any],
) -> "Protocol":
    from nets.sweeps.own_flags import parse_own
    from nets.sweeps.protocol import Protocol, default_epochs, parse_budgets, parse_methods
    from nets.training.run_folder import read_json

    shared: dict[str, Any] = {"net": "resnet20", "data": "digits"}
    if weights is not None and not weights.exists():
        raise InputError(f"there is nothing at {weights}; give the run folder or weights file of a trained network")
    if weights is not None and lengths["dense_epochs"] is not None:
        raise InputError("--weights is the dense network, so none is trained; leave --dense-epochs out")
    if weights is not None and weights.is_file() and None in (given["net"], given["data"]):
        raise InputError("--weights FILE needs --net and --data, so that its tensors have a network and pictures")
    if weights is not None and weights.is_dir():  # the network's shape and its data are the trained run's
        config = read_json(weights / "config.json")
        shared |= {name: config[name] for name in SHAPE if name != "seed" and config.get(name) is not None}
    said = {name: value for name, value in given.items() if value is not None}
    shared |= {name: str(value.resolve()) if isinstance(value, Path) else value for name, value in said.items()}
    names = parse_methods(methods)
    return Protocol(
        methods=names,
        budgets=parse_budgets(budget),
        seeds=tuple(range(seeds)),
        **default_epochs(shared["data"], lengths["epochs"], lengths["finetune_epochs"], lengths["dense_epochs"]),
        weights=weights,
        shared=shared,
        own=parse_own(own, names),
    )


def _compare_methods(
    protocol: "Protocol", out: Path, jobs: int | None, devices: tuple[str, ...] | None, as_json: bool
) -> None:
    from nets.reports.compare import compare_runs
    from nets.reports.compare_report import write_comparison
    from nets.reports.means_table import Asked, means_table
    from nets.sweeps.compare_cells import run_protocol
    from nets.sweeps.places import count_jobs
    from nets.sweeps.protocol import lay_out_methods
    from nets.sweeps.told import describe_protocol

    each = (count_jobs(jobs, devices, protocol.seeds), count_jobs(jobs, devices, lay_out_methods(protocol, out)))
    told = describe_protocol(protocol)
    if each[1] > 1:
        told.append(f"Up to {each[1]} cells ran at a time: their seconds are upper bounds.")
    for sentence in told:
        typer.echo(sentence, err=True)
    try:
        cells = run_protocol(protocol, out, each, devices)
    except KeyboardInterrupt:
        typer.echo("interrupted; start the same comparison again to go on", err=True)
        raise typer.Exit(130) from None
    comparison = compare_runs(
        [out / c.cell.name for c in cells], {out / c.cell.name: c.sentence for c in cells if c.sentence}
    )
    named = [  # a cell that failed before its first word has no config.json to read these from
        replace(row, **{name: c.cell.settings[name] for name in ("net", "data", "method", "seed")})
        for row, c in zip(comparison.rows, cells, strict=True)
    ]
    comparison = replace(comparison, rows=tuple(named))
    table = means_table(comparison, [Asked(c.cell.axes["method"], c.cell.axes["budget"], c.sentence) for c in cells])
    more = {
        "protocol": {
            **{name: getattr(protocol, name) for name in ("methods", "budgets", "seeds", "dense_epochs")},
            **{"epochs": protocol.epochs, "finetune_epochs": protocol.finetune_epochs, "total_epochs": protocol.total},
            "weights": None if protocol.weights is None else str(protocol.weights.resolve()),
            "shared": dict(protocol.shared),
            "own": {method: dict(flags) for method, flags in protocol.own.items()},
            "told": told,
        },
        "table": table,
        "cells": [c.as_json() for c in cells],
    }
    page = write_comparison(comparison, out, told, {c.cell.name: c.command for c in cells}, more)
    if as_json:
        typer.echo(json.dumps({**comparison.as_json(), **more}))
    else:
        typer.echo(table)
        typer.echo(f"page: {page}")
    failed = sum(bool(c.sentence) for c in cells)
    if failed:
        raise CheckFailed(f"{failed} of {len(cells)} cells did not finish as asked; their rows say why")
