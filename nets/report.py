"""report.html: one page, pictures embedded, that tells a newcomer what a run did, why it works and how to repeat it."""

import json
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from nets.settings import as_words
from nets.training.run_folder import read_json
from perspective.errors import InputError

HIDDEN = ("command", "environment")  # settings that are not flags of the command


def write_report(run: str | os.PathLike[str]) -> Path:
    """Write RUN/report.html from config.json, result.json, metrics.jsonl and, where there is one, bound_chain.json.

    Returns its path. Missing metrics leave their pictures out, with a sentence. InputError where config.json or result.json
    is missing or unreadable, or the page cannot be written.
    """
    from jinja2 import Environment, StrictUndefined

    folder = Path(run)
    config, result = read_json(folder / "config.json"), read_json(folder / "result.json")
    lines = _read_metrics(folder / "metrics.jsonl")
    chain = read_json(folder / "bound_chain.json") if (folder / "bound_chain.json").is_file() else None
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(number=_number, scientific=_scientific)
    template = environment.from_string(files("nets").joinpath("report.html").read_text(encoding="utf-8"))
    try:
        page = template.render(_content(folder, config, result, lines, chain))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder} does not hold the figures of a finished run ({error!r}); run it again") from error
    temporary = folder / f".report.html.{os.getpid()}"
    try:
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, folder / "report.html")
    except OSError as error:
        raise InputError(f"cannot write {folder / 'report.html'} ({error.strerror}); choose another folder") from error
    return folder / "report.html"


def _content(
    folder: Path,
    config: Mapping[str, Any],
    result: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    chain: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Everything the page shows, under the names the template uses."""
    from nets.reports import curves as of_curves
    from nets.reports import training_pictures

    dense, pruned = result["dense"], result["pruned"]
    for figures in (dense, pruned):
        if not all(math.isfinite(figures[key]) for key in ("test_accuracy", "macs", "params")):
            raise ValueError("accuracy, macs and params must be finite")
    layers = result.get("layers") or []
    formulas = None
    alpha, bounds = result.get("alpha"), result.get("bounds") or {}
    if alpha and bounds and result["method"] == "spr":  # trained by the exact step that the page explains
        name = sorted(bounds, key=lambda layer: bounds[layer])[len(bounds) // 2]
        num = of_curves.bind_spr(alpha, bounds[name])
        curves = [of_curves.penalty_picture(num, bounds[name]), of_curves.prox_picture(num, bounds[name])]
        formulas = {"alpha": alpha, "bound": bounds[name], "layer": name, "pictures": curves}
    training = [] if not lines else [training_pictures.accuracy_picture(lines), training_pictures.loss_picture(lines)]
    survivors = [training_pictures.surviving_picture(lines), training_pictures.layers_picture(layers)]
    return {
        "config": config,
        "result": result,
        "dense": dense,
        "pruned": pruned,
        "data": {"digits": "handwritten digits", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}.get(
            str(result["data"]), str(result["data"])
        ),
        "net": str(result["net"]).replace("resnet", "ResNet-"),
        "prunes": result["method"] != "none",
        "difference": float(result["equality"]["max_abs_logit_difference"]),
        "left": int(result.get("zero_channels_left", 0)),
        "removed": sum(layer["before"] - layer["after"] for layer in layers),
        "channels": sum(layer["before"] for layer in layers),
        "formulas": formulas,
        "chain": None if chain is None else {**chain, "picture": of_curves.chain_picture(chain)},
        "training": training,
        "survivors": [picture for picture in survivors if picture is not None],
        "sizes": [
            training_pictures.size_picture(result, "macs", "multiplications"),
            training_pictures.size_picture(result, "params", "parameters"),
        ],
        "settings": [
            (name.replace("_", " "), value)
            for name, value in config.items()
            if name not in HIDDEN and value is not None
        ],
        "errors": _errors(result.get("findings") or {}),
        "machine": _machine(result.get("environment") or config.get("environment") or {}),
        "seconds": [(name, value) for name, value in (result.get("seconds") or {}).items()],
        "commands": _commands(folder, config),
    }


def _errors(findings: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """What lq says of its two forms: how far an output can move, and how far it does."""
    named = {"filters": "whole filters, as in this network", "neurons": "as many single weights, neuron by neuron"}
    return [(words, findings[form]) for form, words in named.items() if form in findings]


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    """The complete lines of metrics.jsonl; an unfinished last line (a killed run) is left out."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def _commands(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """The command that repeats the run, then those that add the bound chain to the page and write it again."""
    start = f"perspective {config.get('command', 'train')}"
    flags = {name: value for name, value in config.items() if name not in HIDDEN and value is not None}
    dense = flags.pop("dense", None)
    if dense is not None and config.get("command") == "prune":
        weights = str(dense).endswith((".safetensors", ".th", ".pt", ".pth"))
        start += f" --weights {shlex.quote(str(dense))}" if weights else f" {shlex.quote(str(dense))}"
    elif dense is not None:
        start += f" --dense {shlex.quote(str(dense))}"
    options = shlex.join(word for name, value in flags.items() for word in as_words(name, value))
    name = shlex.quote(folder.name)
    return [
        f"{start} {options} --out NEW_{name}",
        f"perspective verify --json > {name}/bound_chain.json",
        f"perspective report {name}",
    ]


def _machine(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in environment.items():
        if isinstance(value, Mapping):
            rows.extend((str(k), str(v)) for k, v in value.items())
        elif name != "argv":
            rows.append((str(name), str(value)))
    return rows


def _number(value: float) -> str:
    """40551040 -> 40.6 million, 2922 -> 2,922"""
    if abs(value) >= 1e9:
        return f"{value / 1e9:.3g} billion"
    return f"{value / 1e6:.3g} million" if abs(value) >= 1e6 else f"{value:,.0f}"


def _scientific(value: float) -> str:
    """1.9e-06 -> 1.9 × 10⁻⁶"""
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
