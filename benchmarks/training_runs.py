"""Write finished training runs up as a result folder: one table, mean and spread over seeds, and the runs' own files.

python -m benchmarks.training_runs RUN [RUN ...] --out benchmarks/results/<date>_<what> [--command "..."] [--note "..."]

Runs of several kinds get a row each, with the command that started each of them; a spread is that of runs which differ by their
seed alone.
"""

import json
import shlex
import statistics
from pathlib import Path
from typing import Annotated

import typer

COLUMNS = (
    "run",
    "method",
    "seed",
    "training %",
    "validation %",
    "dense test %",
    "pruned test %",
    "MACs left %",
    "parameters left %",
    "channels",
    "difference",
    "s",
)


def main(
    runs: Annotated[list[Path], typer.Argument(help="finished run folders")],
    out: Annotated[Path, typer.Option(help="result folder to write")],
    command: Annotated[
        str, typer.Option(help="what made all runs, data folder written as DIR; default: each run's own")
    ] = "",
    note: Annotated[str, typer.Option(help="what a reader must know: machine load, n, what was not measured")] = "",
) -> None:
    """Collect result.json, config.json and metrics.jsonl of the runs into `out`, with table.md."""
    results = [json.loads((run / "result.json").read_text()) for run in runs]
    rows = [_row(run, result) for run, result in zip(runs, results, strict=True)]
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    text = [
        f"# {out.name}",
        "",
        *([f"Command: `{command}`"] if command else ["Commands:", "", *_commands(results)]),
        "",
        *lines,
        "",
        f"n = {len(runs)} run(s). {_spreads(runs, results)}",
        "",
    ]
    if note:
        text += [note, ""]
    environment = _without_command_line(results[0])["environment"]
    text += ["Machine and versions: " + ", ".join(f"{name} {value}" for name, value in environment.items()) + "."]
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text("\n".join(text) + "\n")
    for run in runs:
        folder = out / run.name
        folder.mkdir(exist_ok=True)
        (folder / "metrics.jsonl").write_text((run / "metrics.jsonl").read_text())
        result = _without_command_line(json.loads((run / "result.json").read_text()))
        (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
        config = _without_command_line(json.loads((run / "config.json").read_text()))
        for name in ("data_dir", "dense", "masks"):
            if config.get(name) is not None:
                config[name] = "DIR" if name == "data_dir" else Path(config[name]).name
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    print("\n".join(text))


def _without_command_line(content: dict) -> dict:
    """The command line names folders of the machine; `--command` says it without them."""
    environment = {name: value for name, value in content["environment"].items() if name != "argv"}
    return {**content, "environment": environment}


def _commands(results: list[dict]) -> list[str]:
    """The command that started each run, once each, folders written as their names."""
    found = []
    for result in results:
        words = [Path(word).name if Path(word).is_absolute() else word for word in result["environment"]["argv"][1:]]
        if "--data-dir" in words:
            words[words.index("--data-dir") + 1] = "DIR"
        found.append(f"- `perspective {shlex.join(words)}`")
    return list(dict.fromkeys(found))


def _row(run: Path, result: dict) -> list[str]:
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    dense, pruned = result["dense"], result["pruned"]
    left = pruned or dense
    before, after = (sum(layer[key] for layer in result["layers"]) for key in ("before", "after"))
    return [
        run.name,
        result["method"],
        str(result["seed"]),
        f"{last['train_accuracy']:.2f}",
        f"{result['validation_accuracy']:.2f}",
        f"{dense['test_accuracy']:.2f}",
        f"{left['test_accuracy']:.2f}",
        f"{100 * left['macs'] / dense['macs']:.1f}",
        f"{100 * left['params'] / dense['params']:.1f}",
        f"{after} of {before}",
        f"{result['equality']['max_abs_logit_difference']:.1e}" if pruned else "",
        f"{result['seconds']['total']:.0f}",
    ]


def _spreads(runs: list[Path], results: list[dict]) -> str:
    """A sentence for each set of runs that differ by their seed alone, and one for all others."""
    alike: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        config = json.loads((run / "config.json").read_text())
        key = json.dumps(
            {name: value for name, value in config.items() if name not in ("seed", "environment", "dense")}
        )
        alike.setdefault(key, []).append(place)
    told = [f"{runs[some[0]].name}: {_spread([results[k] for k in some])}" for some in alike.values() if len(some) > 1]
    single = [some for some in alike.values() if len(some) == 1]
    return " ".join(
        [*told, *(["One seed of each: no spread." if not told else "The others: one seed each."] if single else [])]
    )


def _spread(results: list[dict]) -> str:
    parts = []
    for name, values in (
        ("dense test", [r["dense"]["test_accuracy"] for r in results]),
        ("pruned test", [r["pruned"]["test_accuracy"] for r in results]),
        ("MACs left", [100 * r["pruned"]["macs"] / r["dense"]["macs"] for r in results]),
        ("parameters left", [100 * r["pruned"]["params"] / r["dense"]["params"] for r in results]),
    ):
        parts.append(f"{name} {statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} %")
    return "Mean ± standard deviation: " + "; ".join(parts) + "."


if __name__ == "__main__":
    typer.run(main)
