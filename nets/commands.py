"""The commands `perspective train`, `prune` and `report`, and the training part of the demo."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from nets.run_folder import read_json
from nets.settings import Settings, new_settings, same_settings
from perspective.errors import InputError

Data = Annotated[str | None, typer.Option(help="digits (bundled), cifar10 or cifar100")]
DataDir = Annotated[Path | None, typer.Option(help="folder with the official CIFAR files, or its parent")]
Net = Annotated[str | None, typer.Option(help="resnet20, resnet32, resnet44, resnet56 or resnet110")]
MethodName = Annotated[str | None, typer.Option(help="none, spr or magnitude")]
Epochs = Annotated[int | None, typer.Option(help="epochs of the dense phase, and of the regularised phase")]
FinetuneEpochs = Annotated[int | None, typer.Option(help="epochs after removal")]
Strength = Annotated[float | None, typer.Option(help="lambda of the objective; default: from the budget or the recipe")]
Alpha = Annotated[float | None, typer.Option(help="SPR: ridge (alpha) against the price of a channel (1 - alpha)")]
MScale = Annotated[float | None, typer.Option(help="SPR: box of a layer over its largest trained weight")]
Rate = Annotated[float | None, typer.Option(help="first learning rate")]
BatchSize = Annotated[int | None, typer.Option(help="images a step")]
WeightDecay = Annotated[float | None, typer.Option(help="ordinary weight decay")]
Width = Annotated[int | None, typer.Option(help="channels of the first stage")]
Shortcut = Annotated[str | None, typer.Option(help="A (subsample and pad) or B (1x1 convolution)")]
Seed = Annotated[int | None, typer.Option(help="same seed, same bits on one CPU")]
Precision = Annotated[str | None, typer.Option(help="float32, or bfloat16 (autocast, float32 weights)")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda")]
BudgetText = Annotated[str | None, typer.Option("--budget", help="macs=0.5, params=0.5 or channels=0.5: share to keep")]
Out = Annotated[Path, typer.Option(help="run folder to write")]
Resume = Annotated[bool, typer.Option("--resume", help="continue the run in --out; flags may be left out")]
Json = Annotated[bool, typer.Option("--json", help="print result.json's object, and nothing else, on standard output")]


def train(
    out: Out,
    net: Net = None,
    data: Data = None,
    data_dir: DataDir = None,
    method: MethodName = None,
    epochs: Epochs = None,
    finetune_epochs: FinetuneEpochs = None,
    strength: Strength = None,
    alpha: Alpha = None,
    m_scale: MScale = None,
    lr: Rate = None,
    finetune_lr: Rate = None,
    batch_size: BatchSize = None,
    weight_decay: WeightDecay = None,
    width: Width = None,
    shortcut: Shortcut = None,
    seed: Seed = None,
    precision: Precision = None,
    device: Device = None,
    budget: BudgetText = None,
    dense: Annotated[Path | None, typer.Option(help="run folder or weights to take as the dense network")] = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Train a network, dense (--method none) or pruned while it trains; writes the run folder --out."""
    given = {
        "net": net,
        "data": data,
        "data_dir": _text(data_dir),
        "method": method,
        "epochs": epochs,
        "finetune_epochs": finetune_epochs,
        "strength": strength,
        "alpha": alpha,
        "m_scale": m_scale,
        "lr": lr,
        "finetune_lr": finetune_lr,
        "batch_size": batch_size,
        "weight_decay": weight_decay,
        "width": width,
        "shortcut": shortcut,
        "seed": seed,
        "precision": precision,
        "device": device,
        "budget": budget,
        "dense": _text(dense),
    }
    _run("train", given, {"net": "resnet20", "data": "digits", "method": "spr"}, out, resume, as_json)


def prune(
    out: Out,
    run: Annotated[Path | None, typer.Argument(help="run folder of an ordinary training")] = None,
    weights: Annotated[Path | None, typer.Option(help="safetensors or torch file, with --net and --data")] = None,
    net: Net = None,
    data: Data = None,
    data_dir: DataDir = None,
    method: MethodName = None,
    budget: BudgetText = None,
    epochs: Epochs = None,
    finetune_epochs: FinetuneEpochs = None,
    strength: Strength = None,
    alpha: Alpha = None,
    m_scale: MScale = None,
    lr: Rate = None,
    finetune_lr: Rate = None,
    batch_size: BatchSize = None,
    weight_decay: WeightDecay = None,
    width: Width = None,
    shortcut: Shortcut = None,
    seed: Seed = None,
    precision: Precision = None,
    device: Device = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Prune an already trained network: RUN (a run folder; its dense network is taken), or --weights FILE."""
    if run is not None and weights is not None:
        raise InputError("give a run folder or --weights, not both")
    given = {
        "net": net,
        "data": data,
        "data_dir": _text(data_dir),
        "method": method,
        "budget": budget,
        "epochs": epochs,
        "finetune_epochs": finetune_epochs,
        "strength": strength,
        "alpha": alpha,
        "m_scale": m_scale,
        "lr": lr,
        "finetune_lr": finetune_lr,
        "batch_size": batch_size,
        "weight_decay": weight_decay,
        "width": width,
        "shortcut": shortcut,
        "seed": seed,
        "precision": precision,
        "device": device,
        "dense": _text(run if weights is None else weights),
    }
    defaults: dict[str, Any] = {"method": "spr"}
    if run is not None and not resume:
        # the network's shape and its data are the trained run's, unless said otherwise
        config = read_json(run / "config.json")
        defaults |= {
            name: config[name] for name in ("net", "data", "data_dir", "width", "shortcut", "seed") if name in config
        }
    elif not resume and None in (weights, net, data):
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

    said = {name: value for name, value in given.items() if value is not None}
    settings: Settings
    if resume:
        settings = same_settings(command, said, read_json(out / "config.json"), out)
    else:
        settings = new_settings(command, {**defaults, **said})
    try:
        result = run_training(settings, out, resume)
    except KeyboardInterrupt:
        typer.echo(f"interrupted; continue with: perspective {command} --out {out} --resume", err=True)
        raise typer.Exit(130) from None
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
    return "\n".join([*rows, f"report: {out / 'report.html'}"])


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())
