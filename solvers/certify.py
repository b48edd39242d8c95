"""The certified best channel choice of one layer: an .npz file in, one JSON object out, written whole or not at all.

A job is self-contained (numbers, text and paths), so that it can be run in a process of its own.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from perspective.errors import CheckFailed, InputError
from perspective.files import write_text
from solvers.answers import thin_history
from solvers.choices import best_choice, choice_json, compare_choices
from solvers.exact import solve_exact
from solvers.layer_file import read_layer
from solvers.layer_price import Ask, PricedLayer, price_layer
from solvers.result import Result, Status, relative_gap


@dataclass(frozen=True)
@final
class LayerJob:
    """problem: .npz with inputs, targets, groups, and weights (d, outputs) as trained; out: the JSON file to write.

    options: keyword arguments of `solve_exact`; facts: entries that the JSON object repeats (name, shapes, identity).
    """

    name: str
    problem: Path
    out: Path
    ask: Ask
    gap: float
    time_limit: float
    options: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def certify_layer(job: LayerJob) -> dict[str, Any]:
    """Price, solve, check the certificate, compare; write and return the JSON object.

    InputError for data that make no sense; CheckFailed where the solver gives no point or its certificate does not hold.
    """
    begin = time.perf_counter()
    layer = price_layer(*read_layer(job.problem), job.ask)
    trained = _trained_weights(job.problem, layer)
    result = solve_exact(layer.problem, gap=job.gap, time_limit=job.time_limit, **job.options)
    if result.indicators is None or result.certificate is None:
        raise CheckFailed(f"{result.backend} gave no answer: {result.status}")
    if not np.isfinite(result.objective):
        raise CheckFailed(f"{result.backend} gave a point outside the problem: {result.status}")
    result.certificate.check(layer.problem)
    content = {"name": job.name, **job.facts, **_numbers(layer), **_answer(layer, result, trained, job.gap)}
    content["seconds_total"] = time.perf_counter() - begin
    write_text(job.out, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return content


def _numbers(layer: PricedLayer) -> dict[str, Any]:
    problem = layer.problem
    return {
        "channels": problem.n_groups,
        "group_sizes": sorted({len(m) for m in problem.members}),
        "outputs": problem.targets2d.shape[1],
        "form": "at_most" if layer.at_most else "price",
        "count_asked": layer.count,
        "charge": layer.charge,
        "price": layer.charge / float(np.sum(problem.targets2d**2)),
        "ridge": layer.ridge,
        "bound": layer.bound,
        "parameters": {"alpha": layer.ridge / layer.charge, "M": layer.bound, "price": 1.0, "strength": layer.charge},
    }


def _answer(layer: PricedLayer, result: Result, trained: np.ndarray, gap: float) -> dict[str, Any]:
    """The best point known (the solver's, or a simple choice where time ran out before the solver beat it) against the bound
    that the checked certificate proves."""
    assert result.certificate is not None
    choices = compare_choices(layer, trained, result)
    best = best_choice(choices)
    bound = result.certificate.bound
    left = relative_gap(best.objective, bound)
    found = replace(result, objective=best.objective, lower_bound=bound)
    return {
        "status": str(Status.OPTIMAL if left <= gap else result.status),
        "objective": best.objective,
        "lower_bound": bound,
        "gap": left,
        "indicators": [int(y) for y in best.kept],
        "kept": int(np.count_nonzero(best.kept)),
        "output_error": best.error,
        "found_by": "solver" if best.name == "incumbent" else best.name,
        "seconds": result.seconds,
        "nodes": result.nodes,
        "backend": result.backend,
        "certificate_holds": True,
        "notes": [*layer.notes, *result.notes],
        "history": thin_history(found),
        "choices": {choice.name: choice_json(choice, best.objective, bound) for choice in choices},
    }


def _trained_weights(path: Path, layer: PricedLayer) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as archive:
            trained = np.asarray(archive["weights"], dtype=np.float64)
    except KeyError as error:
        raise InputError(
            f"{path} lacks the array 'weights', the trained ones; write it beside inputs and targets"
        ) from error
    return layer.problem.matrix(trained)
