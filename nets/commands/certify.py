"""The command `perspective certify`: the certified best channel choice of every prunable layer of a trained network."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from nets.settings import new_settings
from nets.training.run_folder import read_json
from perspective.errors import InputError


def certify(
    out: Annotated[Path, typer.Option(help="folder to write; what is finished there is not done again")],
    run: Annotated[Path | None, typer.Argument(help="run folder of an ordinary training")] = None,
    weights: Annotated[Path | None, typer.Option(help="safetensors or torch file, with --net and --data")] = None,
    net: Annotated[str | None, typer.Option(help="resnet20, resnet32, resnet44, resnet56 or resnet110")] = None,
    data: Annotated[str | None, typer.Option(help="digits (bundled), cifar10 or cifar100")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="folder with the official CIFAR files, or its parent")] = None,
    width: Annotated[int | None, typer.Option(help="channels of the first stage")] = None,
    shortcut: Annotated[str | None, typer.Option(help="A (subsample and pad) or B (1x1 convolution)")] = None,
    keep: Annotated[
        float | None,
        typer.Option(help="share (below 1) or number of channels, at the greedy path's price; left out: 0.5"),
    ] = None,
    at_most: Annotated[float | None, typer.Option(help="share or number of channels, as a constraint")] = None,
    price: Annotated[float | None, typer.Option(help="price of a channel, as a share of the output energy")] = None,
    ridge: Annotated[float | None, typer.Option(help="ridge over the Gram matrix's mean diagonal; 1e-4")] = None,
    bound: Annotated[float | None, typer.Option(help="box M; three times the largest ridge weight")] = None,
    images: Annotated[int, typer.Option(help="training images to calibrate on")] = 1000,
    positions: Annotated[int, typer.Option(help="output positions of each image")] = 20,
    layers: Annotated[str | None, typer.Option(help="NAME,NAME,...; left out: every prunable layer")] = None,
    time_limit: Annotated[float, typer.Option(help="seconds a layer")] = 120.0,
    gap: Annotated[float, typer.Option(help="relative gap to prove")] = 1e-3,
    strengthen: Annotated[str | None, typer.Option(help="none, uniform, sdp or blocks; left out: the solver's")] = None,
    backend: Annotated[str | None, typer.Option(help="exact solver; left out: branch")] = None,
    processes: Annotated[int, typer.Option(help="layers at a time, one thread each")] = 2,
    seed: Annotated[int, typer.Option(help="of the images and positions")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print result.json's object, and nothing else")] = False,
) -> None:
    """For every prunable layer: the best channels to keep, a proven bound, and how far magnitude and greedy are from it."""
    from nets.certification.certify import CertifySettings, refuse_failures
    from nets.certification.certify import certify as certify_layers
    from nets.certification.report import certify_table
    from nets.layerwise import Ask

    if (run is None) == (weights is None):
        raise InputError("give a run folder, or --weights FILE with --net and --data; one of the two")
    if (keep, at_most, price) == (None,) * 3:
        keep = 0.5
    settings = CertifySettings(
        ask=Ask(keep, at_most, price, ridge, bound),
        images=images,
        positions=positions,
        gap=gap,
        time_limit=time_limit,
        strengthen=strengthen,
        backend=backend,
        layers=() if layers is None else tuple(name.strip() for name in layers.split(",") if name.strip()),
        processes=processes,
        seed=seed,
    )
    given = {"net": net, "data": data, "data_dir": data_dir, "width": width, "shortcut": shortcut}
    model, pictures, description = _load(run, weights, {k: v for k, v in given.items() if v is not None}, images, seed)
    try:
        result = certify_layers(model, pictures, settings, out, description)
    except KeyboardInterrupt:
        typer.echo(f"interrupted; the same command continues with the layers that are left in {out}", err=True)
        raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps(result))
    else:
        from rich.console import Console

        Console(width=None if sys.stdout.isatty() else 120).print(certify_table(result))
        typer.echo(f"report: {out / 'report.html'}")
    refuse_failures(result)


def _load(
    run: Path | None, weights: Path | None, given: dict[str, Any], images: int, seed: int
) -> tuple[Any, Any, dict[str, Any]]:
    """The trained network, `images` training images drawn by the seed (normalised), and what the result repeats of them."""
    from nets.data import load_data
    from nets.training.dense import load_dense

    if run is not None:
        config = read_json(run / "config.json")
        names = ("net", "data", "data_dir", "width", "shortcut", "image_size")
        known = {name: config[name] for name in names if name in config}
    elif "net" not in given or "data" not in given:
        raise InputError("--weights needs --net and --data, so that its tensors have a network and pictures")
    else:
        known = {}
    source = weights if run is None else run
    asked = {**known, **given, "method": "none", "dense": str(source)}
    if asked.get("data_dir") is not None:
        asked["data_dir"] = str(Path(asked["data_dir"]).resolve())
    shape = new_settings("prune", asked)
    data = load_data(shape.data, None if shape.data_dir is None else Path(shape.data_dir), shape.image_size)
    assert shape.dense is not None
    model = load_dense(Path(shape.dense), shape, data).eval()
    pictures = data.training_images(images, seed)
    return model, pictures, {"net": shape.net, "data": shape.data, "weights": str(source), "width": shape.width}
