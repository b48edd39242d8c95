"""The command `perspective latency`: the dense and the pruned network of a run, timed side by side on this machine."""

import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from perspective.errors import InputError


def latency(
    run: Annotated[Path, typer.Argument(help="run folder of a finished pruning")],
    batch: Annotated[str, typer.Option(help="batch sizes, separated by commas")] = "1,128",
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    repeats: Annotated[int, typer.Option(help="timed runs of each network and batch size")] = 30,
    warmup: Annotated[int, typer.Option(help="runs before the clock starts")] = 5,
    data_dir: Annotated[Path | None, typer.Option(help="folder of the run's data, where it has moved")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object, and nothing else")] = False,
) -> None:
    """Time RUN's dense and pruned networks in turns; medians, what four fifths of the runs lie between, and the ratio."""
    import torch

    from nets.latency import compare_latency
    from nets.training.finished_run import open_finished

    sizes = _batch_sizes(batch)
    if device not in ("cpu", "cuda"):
        raise InputError(f"unknown --device {device!r}; choose one of cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda, but torch sees no GPU; use --device cpu")
    opened = open_finished(run, data_dir)
    if opened.dense is None:
        raise InputError(f"{run} pruned nothing (no folder dense), so there are not two networks; give a pruning run")
    dense, pruned = opened.dense.to(device), opened.final.to(device)
    examples = opened.data.example_inputs
    rows: list[dict[str, Any]] = []
    for size in sizes:
        typer.echo(f"batch {size}: {warmup} + {repeats} runs of each network", err=True)
        inputs = examples[torch.arange(size) % len(examples)]
        rows.append({"batch": size, **asdict(compare_latency(dense, pruned, inputs, repeats=repeats, warmup=warmup))})
    content = {
        "run": str(run),
        "device": device,
        "processor": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "repeats": repeats,
        "warmup": warmup,
        "rows": rows,
    }
    typer.echo(json.dumps(content) if as_json else latency_table(content))


def latency_table(content: dict[str, Any]) -> str:
    """One row a batch size: milliseconds and the ratio, each as median (low to high)."""
    lines = [f"{'batch':>6}{'dense, ms':>30}{'pruned, ms':>30}{'pruned / dense':>26}"]
    for row in content["rows"]:
        dense, pruned = (_spread(row[name], 1e3) for name in ("dense", "pruned"))
        unclear = "  either may be faster" if row["ratio"]["low"] < 1 < row["ratio"]["high"] else ""
        lines.append(f"{row['batch']:>6}{dense:>30}{pruned:>30}{_spread(row['ratio'], 1.0):>26}{unclear}")
    lines.append(
        f"median (10 % to 90 % of {content['repeats']} runs); {content['device']} {content['processor']}, "
        f"threads {content['threads']}, torch {content['torch']}"
    )
    return "\n".join(lines)


def _spread(values: dict[str, float], scale: float) -> str:
    centre, low, high = (scale * values[name] for name in ("median", "low", "high"))
    return f"{centre:.3f} ({low:.3f} to {high:.3f})"


def _batch_sizes(text: str) -> list[int]:
    try:
        sizes = [int(word) for word in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise InputError(f"--batch is {text!r}; give positive numbers separated by commas, for example 1,128")
    return sizes
