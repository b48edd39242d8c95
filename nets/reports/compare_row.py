"""One run of a comparison: its figures from result.json, or a sentence that says why there are none."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from nets.training.run_folder import read_json
from perspective.errors import InputError

OWN_FILES = ("cifar10", "cifar100")  # the same images wherever their folder is: every file's checksum is known
NEVER_COMPARED = ("seed", "environment", "dense")  # a dense run counts by its own settings


@final
@dataclass(frozen=True)
class Row:
    """One run. status "finished", or else `note` says what is wrong and the figures are None.

    Accuracies in percent on the test split; shares are pruned over dense; macs and params of the pruned network (of the
    dense one where nothing was pruned); strength and alpha None where the method has none.
    """

    run: str
    status: Literal["finished", "unfinished", "broken"]
    note: str
    net: str | None = None
    data: str | None = None
    method: str | None = None
    seed: int | None = None
    dense_accuracy: float | None = None
    pruned_accuracy: float | None = None
    macs_share: float | None = None
    params_share: float | None = None
    macs: int | None = None
    dense_macs: int | None = None
    params: int | None = None
    seconds: float | None = None
    strength: float | None = None
    alpha: float | None = None


def read_row(folder: Path) -> tuple[Row, dict[str, Any] | None]:
    """The run's row and its recipe: the settings that runs which differ only by their seed share; None without figures."""
    try:
        config = read_json(folder / "config.json")
    except InputError as error:
        return Row(str(folder), "broken", str(error)), None
    names = {name: config.get(name) for name in ("net", "data", "method")}
    known: dict[str, Any] = {name: value for name, value in names.items() if isinstance(value, str)}
    if isinstance(config.get("seed"), int):
        known["seed"] = config["seed"]
    if not (folder / "result.json").is_file():
        return Row(str(folder), "unfinished", _how_far(folder, config), **known), None
    try:
        result = read_json(folder / "result.json")
        return Row(str(folder), "finished", "", **_figures(result)), _recipe(config)
    except InputError as error:
        return Row(str(folder), "broken", str(error), **known), None
    except (KeyError, TypeError, ValueError) as error:
        note = f"result.json does not hold the figures of a finished run ({error}); run it again"
        return Row(str(folder), "broken", note, **known), None


def _figures(result: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of Row; KeyError, TypeError or ValueError where one is missing or is no finite number."""
    dense, pruned = result["dense"], result["pruned"]
    sizes = {"macs": pruned["macs"], "dense_macs": dense["macs"], "params": pruned["params"]}
    if min(_finite(name, value) for name, value in {**sizes, "dense params": dense["params"]}.items()) <= 0:
        raise ValueError("macs and params must be positive")
    if not isinstance(result["seed"], int):
        raise ValueError("the seed is no whole number")
    return {
        **{name: str(result[name]) for name in ("net", "data", "method")},
        "seed": result["seed"],
        "dense_accuracy": _finite("dense accuracy", dense["test_accuracy"]),
        "pruned_accuracy": _finite("pruned accuracy", pruned["test_accuracy"]),
        "macs_share": pruned["macs"] / dense["macs"],
        "params_share": pruned["params"] / dense["params"],
        **sizes,
        "seconds": _finite("seconds", result["seconds"]["total"]),
        "strength": None if result.get("strength") is None else _finite("strength", result["strength"]),
        "alpha": None if result.get("alpha") is None else _finite("alpha", result["alpha"]),
    }


def _finite(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}")
    return value


def _recipe(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without the seed and the machine; a dense run folder by its own settings, else by its path."""
    recipe = {name: value for name, value in config.items() if name not in NEVER_COMPARED}
    if recipe.get("data") in OWN_FILES:
        recipe.pop("data_dir", None)
    dense = config.get("dense")
    if dense is not None:
        try:
            recipe["dense"] = _recipe(read_json(Path(str(dense)) / "config.json"))
        except InputError:  # a weights file, or a run that is no longer there
            recipe["dense"] = dense
    return recipe


def _how_far(folder: Path, config: Mapping[str, Any]) -> str:
    """What an unfinished run had done, and the command that continues it."""
    metrics = folder / "metrics.jsonl"
    done = "no epoch is done"
    for text in metrics.read_text(encoding="utf-8", errors="replace").splitlines() if metrics.is_file() else []:
        try:
            line = json.loads(text)
            done = f"{line['phase']} phase, epoch {line['epoch']} done"
        except (ValueError, KeyError, TypeError):
            continue  # the last line of a killed run may be cut
    return f"{done}; continue with perspective {config.get('command', 'train')} --out {folder} --resume"
