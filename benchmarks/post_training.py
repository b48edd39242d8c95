"""How much accuracy does a trained CIFAR-10 ResNet-20 keep when channels go without any training?

python -m benchmarks.post_training --weights FILE --data-dir DIR [--seeds 0,1,2] [--cases channels50,...] [--methods NAME,...]
    [--images 2000] [--time-limit 20] [--out FOLDER]

Only internal channels (between the two convolutions of a block) go. Cases: 25 % or 50 % of them removed, or 50 % of the network's
MACs left. A seed is a draw of the calibration images (from the training split, no labels) and of positions. Methods:

magnitude, bn-scale        half of every block, the trained weights stay (no calibration, so one seed)
magnitude + LS             the same channels; each second convolution refitted to its own dense answers
greedy + LS                half of every block by backward elimination, refitted the same way
layerwise                  channels shared out by measured divergence, each block repaired to the dense stream, the exact solver's
                           choices, the classifier refitted

Each finished run is a file of FOLDER/runs and not repeated, so several processes can share a FOLDER. Options were chosen on the
validation split (which these public weights were trained on: it reads too high); only finished networks see the test split.
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.environment import command_line, environment, keep
from nets.budget import Budget
from nets.data import Dataset, load_data
from nets.measure import measure
from nets.post_training.budget import measure_curves
from nets.post_training.plan import Plan
from nets.post_training.prune import prune_post_training
from nets.post_training.sites import find_sites
from nets.resnet import resnet20
from nets.training.evaluate import accuracy
from nets.weights import load_weights
from perspective.errors import InputError
from perspective.files import write_text

METHODS: dict[str, dict[str, Any]] = {
    "magnitude": {"choice": "magnitude", "allocation": "even", "repair": "none"},
    "bn-scale": {"choice": "bn-scale", "allocation": "even", "repair": "none"},
    "magnitude + LS": {"choice": "magnitude", "allocation": "even", "repair": "layer"},
    "greedy + LS": {"choice": "greedy", "allocation": "even", "repair": "layer"},
    "layerwise": {"choice": "exact"},
}
CASES = {
    "channels25": "25 % of internal channels removed",
    "channels50": "50 % of internal channels removed",
    "macs50": "50 % of MACs left",
}
ONE_SEED = ("magnitude", "bn-scale")


def budget_of(case: str, model: nn.Module, example: torch.Tensor) -> Budget:
    """The budget of a case; channels are counted over the whole network, the shared ones included."""
    if case == "macs50":
        return Budget("macs", 0.5)
    whole = measure(model, example).channels
    internal = sum(site.channels for site in find_sites(model, example)[0])
    removed = round(internal * (0.25 if case == "channels25" else 0.5))
    return Budget("channels", (whole - removed) / whole)


def calibrate(data: Dataset, count: int, seed: int) -> torch.Tensor:
    """Normalised training images drawn by the seed."""
    chosen = np.sort(np.random.default_rng(seed).choice(len(data.train), count, replace=False))
    return data.normalise(data.train.images[torch.from_numpy(chosen)])


def main() -> None:
    """Parse, load, run what is missing, print, keep."""
    options = _parse()
    runs = options.out / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    data = load_data("cifar10", options.data_dir)
    model = resnet20().eval()
    load_weights(model, options.weights)
    example = data.example_inputs
    for seed in options.seeds:
        images = calibrate(data, options.images, seed)
        curves = None
        for case in options.cases:
            for method in options.methods:
                path = runs / f"{case}, {method}, {seed}.json"
                if path.exists() or (method in ONE_SEED and seed != options.seeds[0]):
                    continue
                begin = time.perf_counter()
                plan = Plan(
                    budget_of(case, model, example), time_limit=options.time_limit, seed=seed, **METHODS[method]
                )
                if plan.allocation == "measured" and curves is None:
                    curves = _curves(options, model, images, plan, seed)
                    begin = time.perf_counter()
                say = _say(f"{case}, {method}, {seed}")
                pruned = prune_post_training(model, images, plan, example_inputs=example, curves=curves, progress=say)
                seconds = time.perf_counter() - begin
                found = {
                    "case": case,
                    "method": method,
                    "seed": seed,
                    "images": options.images,
                    "time_limit": options.time_limit,
                    "test": accuracy(pruned.model, data, data.test),
                    "share": pruned.share,
                    "macs": measure(pruned.model, example).macs / measure(model, example).macs,
                    "params": measure(pruned.model, example).params / measure(model, example).params,
                    "difference": pruned.difference,
                    "seconds": seconds,
                    "layers": [{**asdict(layer), "gap": layer.gap} for layer in pruned.layers],
                }
                write_text(path, json.dumps(found, allow_nan=False, indent=1) + "\n")
                say(f"test {found['test']:.2f}, {seconds:.0f} s")
    text = table([json.loads(path.read_text()) for path in sorted(runs.glob("*.json"))])
    print(text)
    keep(options.out, text, environment(command_line("benchmarks.post_training"), ("numpy", "scipy", "numba", "torch")))


def table(found: list[dict[str, Any]]) -> str:
    """Markdown: a row a method and case, mean and standard deviation over the seeds; then the choices, layer by layer."""
    lines = [
        "| case | method | test % | n | MACs left % | parameters left % | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for case, title in CASES.items():
        for method in METHODS:
            some = [run for run in found if (run["case"], run["method"]) == (case, method)]
            if some:
                cells = [_spread([run["test"] for run in some]), str(len(some))]
                cells += [f"{100 * statistics.mean(run[key] for run in some):.1f}" for key in ("macs", "params")]
                cells.append(f"{statistics.mean(run['seconds'] for run in some):.0f}")
                lines.append(f"| {title} | {method} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Layerwise, exact choices: kept, how far greedy lies above, and the bound below (% of the objective).",
        "",
    ]
    lines += [
        "| case | seed | " + " | ".join(("layer", "kept", "greedy above", "gap left", "error before", "after")) + " |"
    ]
    lines += ["|---" * 8 + "|"]
    for run in found:
        for layer in run["layers"] if run["method"] == "layerwise" else ():
            solved = layer["objective"] is not None
            numbers = (
                f"{layer['name']} | {len(layer['kept'])} of {layer['channels']} | "
                + (f"{100 * (layer['greedy'] / layer['objective'] - 1):.2f} | " if solved else " | ")
                + (f"{100 * max(0.0, layer['gap']):.2f} | " if solved else " | ")
                + f"{layer['error_before']:.3f} | {layer['error_after']:.3f}"
            )
            lines.append(f"| {run['case']} | {run['seed']} | {numbers} |")
    return "\n".join(lines)


def _curves(options: argparse.Namespace, model: nn.Module, images: torch.Tensor, plan: Plan, seed: int) -> list[Any]:
    """The measured curves of a seed, kept in a file: they do not depend on the budget."""
    path = options.out / f"curves_{seed}.json"
    if path.exists():
        kept = json.loads(path.read_text())
        return [np.array(curve) for curve in kept["curves"].values()]
    begin = time.perf_counter()
    sites, nodes = find_sites(model, images[:2])
    curves = measure_curves(model, images, sites, nodes, plan, _say(f"curves, {seed}"))
    named = {site.name: curve.tolist() for site, curve in zip(sites, curves, strict=True)}
    write_text(path, json.dumps({"seconds": time.perf_counter() - begin, "curves": named}) + "\n")
    return curves


def _say(what: str) -> Any:
    return lambda text: print(f"{datetime.now(UTC):%H:%M:%S} {what}: {text}", file=sys.stderr, flush=True)


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.post_training", description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="trained ResNet-20")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with the official CIFAR-10 files")
    parser.add_argument("--seeds", type=lambda text: [int(s) for s in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--cases", type=_listed(CASES), default=list(CASES))
    parser.add_argument("--methods", type=lambda text: text.split(";"), default=list(METHODS), help="separated by ;")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--time-limit", type=float, default=20.0, help="seconds a layer, for the exact solver")
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results") / f"{today}_post_training")
    return parser.parse_args()


def _listed(known: dict[str, Any]) -> Any:
    def read(text: str) -> list[str]:
        for name in text.split(","):
            if name not in known:
                raise InputError(f"unknown name {name!r}; choose among {', '.join(known)}")
        return text.split(",")

    return read


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
