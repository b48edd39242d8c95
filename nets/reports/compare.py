"""Finished runs side by side: one row a run, means over seeds, and which of them no other beats in accuracy and MACs.

A run that is unfinished or broken is a row that says so. Runs whose settings differ only by their seed form one group;
a dense network they started from counts by its own settings, so that it too may differ by its seed.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, final

from nets.reports.compare_row import Row, read_row
from perspective.errors import InputError

FIGURES = ("dense_accuracy", "pruned_accuracy", "macs_share", "params_share", "macs", "dense_macs", "params", "seconds")


@final
@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (None for a single run)."""

    mean: float
    std: float | None


@final
@dataclass(frozen=True)
class Group:
    """Finished runs that differ only by their seed. figures: those of FIGURES; rows: their places in Comparison.rows.

    on_front: no other group on the same data has at most its mean MACs and at least its mean accuracy, one of them strictly.
    """

    net: str
    data: str
    method: str
    budget: str | None
    seeds: tuple[int, ...]
    rows: tuple[int, ...]
    figures: Mapping[str, Spread]
    on_front: bool


@final
@dataclass(frozen=True)
class Comparison:
    """One row a run, in the order they were given, and one group for every set of seeds."""

    rows: tuple[Row, ...]
    groups: tuple[Group, ...]

    def as_json(self) -> dict[str, Any]:
        """The content of compare.json."""
        return json.loads(json.dumps(asdict(self), allow_nan=False))


def compare_runs(
    runs: Sequence[str | os.PathLike[str]], failures: Mapping[str | os.PathLike[str], str] | None = None
) -> Comparison:
    """Read the run folders. failures: those that failed and why; each is a broken row and in no mean. InputError where one is
    no folder or is given twice."""
    folders = [Path(run) for run in runs]
    if not folders:
        raise InputError("there is nothing to compare; give at least one run folder")
    for place, folder in enumerate(folders):
        if not folder.is_dir():
            raise InputError(f"there is no run folder {folder}; give folders that perspective train or prune wrote")
        if folder.resolve() in [earlier.resolve() for earlier in folders[:place]]:
            raise InputError(f"{folder} is given twice, which would count its seed twice; give every run once")
    failed = {Path(run): sentence for run, sentence in (failures or {}).items()}
    rows: list[Row] = []
    alike: list[tuple[dict[str, Any], list[int]]] = []  # settings without the seed, and the rows that share them
    for place, folder in enumerate(folders):
        row, recipe = read_row(folder)
        if folder in failed:
            row = replace(row, status="broken", note=failed[folder])
        elif recipe is not None:
            places = next((there for known, there in alike if known == recipe), None)
            twin = next((rows[k].run for k in places or () if rows[k].seed == row.seed), None)
            if places is None:
                alike.append((recipe, [place]))
            elif twin is None:
                places.append(place)
            else:  # the same experiment once more says nothing about the spread over seeds
                row = replace(row, note=f"same settings and seed as {twin}; not in the means")
        rows.append(row)
    return Comparison(tuple(rows), _groups(rows, alike))


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which points (cost, value) no other point beats: at most the cost and at least the value, one of them strictly."""
    return [not any(c <= cost and v >= value and (c, v) != (cost, value) for c, v in points) for cost, value in points]


def _groups(rows: Sequence[Row], alike: Sequence[tuple[dict[str, Any], list[int]]]) -> tuple[Group, ...]:
    figures = [{name: _spread([getattr(rows[k], name) for k in places]) for name in FIGURES} for _, places in alike]
    sources = [(recipe.get("data"), recipe.get("data_dir")) for recipe, _ in alike]
    front = [False] * len(alike)
    for source in dict.fromkeys(sources):
        there = [k for k, other in enumerate(sources) if other == source]
        points = [(figures[k]["macs"].mean, figures[k]["pruned_accuracy"].mean) for k in there]
        for k, best in zip(there, pareto_front(points), strict=True):
            front[k] = best
    return tuple(
        Group(
            net=str(rows[places[0]].net),
            data=str(rows[places[0]].data),
            method=str(rows[places[0]].method),
            budget=recipe.get("budget"),
            seeds=tuple(int(str(rows[k].seed)) for k in places),
            rows=tuple(places),
            figures=spreads,
            on_front=best,
        )
        for (recipe, places), spreads, best in zip(alike, figures, front, strict=True)
    )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None)
