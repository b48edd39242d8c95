"""The commands `perspective train`, `prune` and `report`, and the training part of the demo."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from nets.options import with_options
from nets.recipes import choose_recipe
from nets.settings import Settings, new_settings, same_settings
from nets.training.memory import keep_freed_memory
from nets.training.run_folder import read_json
from perspective.errors import InputError

SHAPE = (
    "net",
    "data",
    "data_dir",
    "width",
    "shortcut",
    "image_size",
    "seed",
)  # what a pruned run takes from a trained one

Out = Annotated[Path, typer.Option(help="run folder to write")]
Resume = Annotated[bool, typer.Option("--resume", help="continue the run in --out; flags may be left out")]
Json = Annotated[bool, typer.Option("--json", help="print result.json's object, and nothing else, on standard output")]


@with_options
def train(
    out: Out,
    dense: Annotated[Path | None, typer.Option(help="run folder or weights to take as the dense network")] = None,
    resume: Resume = False,
    as_json: Json = False,
    **given: Any,
) -> None:
    """Train a network, dense (--method none) or pruned while it trains; writes the run folder --out."""
    defaults = {} if given.get("recipe") else {"net": "resnet20", "data": "digits", "method": "spr"}
    _run("train", {**given, "dense": dense}, defaults, out, resume, as_json)


@with_options
def prune(
    out: Out,
    run: Annotated[Path | None, typer.Argument(help="run folder of an ordinary training")] = None,
    weights: Annotated[Path | None, typer.Option(help="safetensors or torch file, with --net and --data")] = None,
    resume: Resume = False,
    as_json: Json = False,
    **given: Any,
) -> None:
    """Prune an already trained network: RUN (a run folder; its dense network is taken), or --weights FILE."""
    if run is not None and weights is not None:
        raise InputError("give a run folder or --weights, not both")
    given["dense"] = run if weights is None else weights
    recipe = {} if given.get("recipe") is None else choose_recipe(given["recipe"]).settings()
    defaults: dict[str, Any] = {} if recipe else {"method": "spr"}
    if run is not None and not resume:
        # the network's shape and its data are the trained run's, unless said otherwise
        config = read_json(run / "config.json")
        defaults |= {name: config[name] for name in SHAPE if config.get(name) is not None}
    elif not resume and None in (weights, given["net"] or recipe.get("net"), given["data"] or recipe.get("data")):
        raise InputError("give a run folder, or all of --weights FILE, --net and --data")
    _run("prune", given, defaults, out, resume, as_json)


def report(
    run: Annotated[Path, typer.Argument(help="run folder")],
    as_json: Annotated[bool, typer.Option("--json", help='print {"report": PATH} on standard output')] = False,
) -> None:
    """Write RUN/report.html again from the files of the run folder."""
    from nets.report import write_report

    path = write_report(run)
    typer.echo(json.dumps({"report": str(path)}) if as_json else f"report: {path}")


def demo_train(out: Path) -> dict[str, Any]:
    """The demo's training: ResNet-20 on digits by the recipe, all phases; prints the table, returns result.json's
    content. An interrupted demo in `out` is continued."""
    from nets.train import train as run_training

    keep_freed_memory()
    resume = (out / "config.json").is_file()
    result = run_training(new_settings("train", {"net": "resnet20", "data": "digits", "method": "spr"}), out, resume)
    typer.echo(summary(result, out))
    return result


def _run(
    command: Literal["train", "prune"],
    given: dict[str, Any],
    defaults: dict[str, Any],
    out: Path,
    resume: bool,
    as_json: bool,
) -> None:
    from nets.train import train as run_training

    said = {name: _plain(value) for name, value in given.items() if value is not None}
    settings: Settings
    if resume:
        settings = same_settings(command, said, read_json(out / "config.json"), out)
    else:
        settings = new_settings(command, {**defaults, **said})
    keep_freed_memory()
    try:
        result = run_training(settings, out, resume)
    except KeyboardInterrupt:
        typer.echo(f"interrupted; continue with: perspective {command} --out {out} --resume", err=True)
        raise typer.Exit(130) from None
    if os.environ.get("RANK", "0") == "0":  # of torchrun's processes one speaks
        typer.echo(json.dumps(result) if as_json else summary(result, out))


def summary(result: dict[str, Any], out: Path) -> str:
    """A short table: dense and pruned accuracy, MACs, parameters."""
    rows = [f"{'':<8}{'test accuracy':>14}{'MACs':>14}{'parameters':>12}"]
    for name in ("dense",) if result["method"] == "none" else ("dense", "pruned"):
        figures = result[name]
        rows.append(f"{name:<8}{figures['test_accuracy']:>12.2f} %{figures['macs']:>14,}{figures['params']:>12,}")
    if result["method"] != "none":
        whole, left = result["dense"], result["pruned"]
        rows.append(
            f"{'left':<8}{'':>14}{left['macs'] / whole['macs']:>14.1%}{left['params'] / whole['params']:>12.1%}"
        )
        rows.append(f"removal changed the logits by at most {result['equality']['max_abs_logit_difference']:.2g}")
    recipe = result.get("recipe")
    if recipe is not None:
        rows += [f"{recipe['name'] or 'defaults'}: {sentence}" for sentence in recipe["told"]]
    return "\n".join([*rows, f"report: {out / 'report.html'}"])


def _plain(value: Any) -> Any:
    """A path as config.json holds it."""
    return str(value.resolve()) if isinstance(value, Path) else value
