"""How tight, and how far proven, is the channel choice of the layers of a trained ResNet-20 on CIFAR-10?

python -m benchmarks.real_layers --weights FILE --data-dir DIR [--layers NAME,...] [--images 1000] [--positions 20]
    [--keep 0.5] [--gap 1e-3] [--limits 16=5,32=120,64=300] [--out FOLDER]

The second convolution of each block; rows, ridge, box and price as `perspective certify` takes them. First the exact solver
with the seconds of the layer's width; then root gaps from the point it found, (value - root bound) / value: big-M and the
perspective (certified), and the perspective after moving curvature (uniform, sdp, blocks; and blocks
that are the same for all outputs, which shows what blocks for each principal output buy). Big-M goes through cvxpy and is
left out above MOST_CONIC weights, where the perspective's bound stands above it anyway.
Every finished step is a line of FOLDER/steps.jsonl and not repeated.
"""

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.environment import command_line, environment, keep
from nets.certification.calibration import collect_inputs
from nets.data import load_data
from nets.layerwise import layer_problem
from nets.resnet import resnet20
from nets.weights import load_weights
from perspective.errors import CheckFailed, InputError
from perspective.files import write_text
from solvers import LayerProblem, solve_exact, solve_relaxation
from solvers.split.node import Effort, look_closely
from solvers.split.program import condense, split_problem
from solvers.split.strengthen import output_clusters, root_curvature

LAYERS = tuple(f"layer{stage}.{block}.conv2" for stage in (1, 2, 3) for block in (0, 1, 2))
CERTIFIED = {"big-M": "big_m", "perspective": "projected"}
TOGETHER = "blocks, outputs together"
ROOTS = (*CERTIFIED, "uniform", "sdp", TOGETHER, "blocks")
MOST_CONIC = 10_000  # weights of a layer that cvxpy is asked to model
ROOT_SECONDS = 20.0  # a look stopped there has a valid bound, short of its best
GOALS = {16: 1e-3, 32: 0.05, 64: 0.15}  # gap left, by width


def root_bound(problem: LayerProblem, kind: str, value: float) -> float:
    """The bound of one relaxation before any branching; `value` of the best point known ends a look that reaches it."""
    if kind in CERTIFIED:
        result = solve_relaxation(problem, CERTIFIED[kind], time_limit=ROOT_SECONDS)
        if result.certificate is None:
            raise CheckFailed(f"the {kind} relaxation ended with {result.status}; lower MOST_CONIC")
        return result.certificate.bound
    p, outputs = problem.n_groups, problem.targets2d.shape[1]
    mode = "blocks" if kind == TOGETHER else kind
    split = split_problem(problem, 1 if kind == TOGETHER else output_clusters(kind, outputs))
    E = root_curvature(split, mode)
    part = condense(split, np.zeros(p, dtype=np.int8))
    start = np.full(p, 0.5), E, np.zeros(E.shape[:3]), 0.02 * abs(value) / len(E)
    deadline = time.perf_counter() + ROOT_SECONDS
    look = look_closely(split, part, split.room, start, value, Effort(200, 0.005, mode == "blocks"), deadline)
    if look is None:
        raise InputError(f"the {kind} relaxation found no factorisation; use a larger ridge")
    return look.bound


def measure_layer(name: str, problem: LayerProblem, options: argparse.Namespace, steps: list[dict[str, Any]]) -> None:
    """The exact solve, then the roots; each kept when done."""
    done = {(step["layer"], step["what"]) for step in steps}
    limit = options.limits[problem.n_groups]

    def note(what: str, **found: Any) -> None:
        steps.append({"layer": name, "channels": problem.n_groups, "what": what, **found})
        write_text(options.out / "steps.jsonl", "".join(json.dumps(s, allow_nan=False) + "\n" for s in steps))
        print(steps[-1], file=sys.stderr)

    if (name, "exact") not in done:
        chosen = {} if options.strengthen is None else {"strengthen": options.strengthen}
        begin = time.perf_counter()
        result = solve_exact(problem, gap=options.gap, time_limit=limit, backend="branch", **chosen)
        seconds = time.perf_counter() - begin
        assert result.certificate is not None
        assert result.indicators is not None
        result.certificate.check(problem)
        note(
            "exact",
            seconds=seconds,
            limit=limit,
            status=str(result.status),
            objective=result.objective,
            lower_bound=result.lower_bound,
            gap=result.gap,
            kept=int(np.sum(result.indicators)),
            nodes=result.nodes,
        )
    value = next(s["objective"] for s in steps if (s["layer"], s["what"]) == (name, "exact"))
    for kind in ROOTS:
        if (name, kind) not in done and (
            kind != "big-M" or problem.X.shape[1] * problem.targets2d.shape[1] <= MOST_CONIC
        ):
            begin = time.perf_counter()
            bound = root_bound(problem, kind, value)
            note(kind, bound=bound, gap=(value - bound) / value, seconds=time.perf_counter() - begin)


def table(steps: list[dict[str, Any]]) -> str:
    """Markdown: a row a layer; root gaps in %, then the exact solve and whether it reached the goal of its width."""
    found = {(step["layer"], step["what"]): step for step in steps}
    lines = [
        "| layer | channels | big-M | perspective | uniform | sdp | blocks, outputs together | blocks "
        "| seconds, blocks | kept | exact: left | seconds | limit | nodes | goal |",
        "|---" * 15 + "|",
    ]
    for name in dict.fromkeys(step["layer"] for step in steps):
        exact = found.get((name, "exact"))
        if exact is None or any((name, kind) not in found for kind in ROOTS[1:]):
            continue
        gaps = [found[name, kind]["gap"] if (name, kind) in found else None for kind in ROOTS]
        # uniform moves at least the ridge: where its look stopped short, the perspective's bound holds for it too
        gaps[ROOTS.index("uniform")] = min(found[name, "uniform"]["gap"], found[name, "perspective"]["gap"])
        roots = ["" if gap is None else f"{100 * max(gap, 0.0):.1f} %" for gap in gaps]
        goal = GOALS.get(exact["channels"])
        reached = "" if goal is None else f"{100 * goal:g} %: {'yes' if exact['gap'] <= goal else 'no'}"
        cells = (
            name,
            str(exact["channels"]),
            *roots,
            f"{found[name, 'blocks']['seconds']:.1f}",
            str(exact["kept"]),
            f"{100 * exact['gap']:.3g} %",
            f"{exact['seconds']:.1f}",
            f"{exact['limit']:g}",
            str(exact["nodes"]),
            reached,
        )
        lines.append("| " + " | ".join(cells) + " |")
    note = (
        "Gaps are (best value - bound) / best value. uniform: the better of its own look and the perspective's bound."
    )
    return "\n".join([*lines, "", note])


def main() -> None:
    """Parse, load, measure what is missing, print, keep."""
    options = _parse()
    options.out.mkdir(parents=True, exist_ok=True)
    config = {
        k: v for k, v in vars(options).items() if k in ("images", "positions", "keep", "gap", "seed", "strengthen")
    }
    marker = options.out / "config.json"
    if marker.exists() and json.loads(marker.read_text()) != config:
        raise InputError(f"{options.out} holds steps of other settings; choose another --out")
    write_text(marker, json.dumps(config) + "\n")
    path = options.out / "steps.jsonl"
    steps = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    data = load_data("cifar10", options.data_dir)
    model = resnet20()
    load_weights(model, options.weights)
    chosen = np.sort(np.random.default_rng(options.seed).choice(len(data.train), options.images, replace=False))
    images = data.normalise(data.train.images[torch.from_numpy(chosen)])
    modules = dict(model.named_modules())
    for name in options.layers:
        inputs = collect_inputs(model.eval(), images, [name])[name]
        problem = layer_problem(
            modules[name], inputs, keep=options.keep, positions=options.positions, seed=options.seed
        )
        measure_layer(name, problem, options, steps)
    text = table(steps)
    print(text)
    keep(options.out, text, environment(command_line("benchmarks.real_layers"), ("numpy", "scipy", "numba", "torch")))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_layers", description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="trained ResNet-20")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with the official CIFAR-10 files")
    parser.add_argument("--layers", type=lambda text: tuple(text.split(",")), default=LAYERS)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--positions", type=int, default=20)
    parser.add_argument("--keep", type=float, default=0.5)
    parser.add_argument("--gap", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strengthen", help="passed to the exact solver")
    parser.add_argument("--limits", type=_limits, default="16=5,32=120,64=300", help="seconds by number of channels")
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results") / f"{today}_real_layers")
    return parser.parse_args()


def _limits(text: str) -> dict[int, float]:
    return {int(width): float(seconds) for width, _, seconds in (part.partition("=") for part in text.split(","))}


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
