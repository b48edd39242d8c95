"""Write a finished `perspective compare --methods` up as a result folder: protocol, means, every cell, the pages' numbers.

python -m benchmarks.comparison COMPARISON [COMPARISON ...] --out benchmarks/results/<date>_<what> [--note "..."]

Several comparisons (the same protocol with other flags of one method) follow one another in one table.md. Paths of this machine
are written as their last part.
"""

import json
import re
import statistics
from pathlib import Path
from typing import Annotated, Any

import typer

BASELINE = "magnitude"
COLUMNS = (
    "method",
    "budget",
    "seed",
    "validation %",
    "test %",
    f"minus {BASELINE}",
    "MACs left %",
    "parameters left %",
)
CELLS = f"| {' | '.join((*COLUMNS, 'epochs', 'seconds'))} |"


def main(
    comparisons: Annotated[list[Path], typer.Argument(help="folders that hold compare.json")],
    out: Annotated[Path, typer.Option(help="result folder to write")],
    note: Annotated[str, typer.Option(help="what a reader must know: machine load, what was not measured")] = "",
) -> None:
    """Collect compare.json, and result.json and metrics.jsonl of the cells, into `out`, with table.md."""
    text = [f"# {out.name}", "", *([note, ""] if note else [])]
    out.mkdir(parents=True, exist_ok=True)
    environment: dict[str, Any] = {}
    for comparison in comparisons:
        found = json.loads(without_folders((comparison / "compare.json").read_text()))
        results = {
            cell["name"]: json.loads(without_folders((comparison / cell["name"] / "result.json").read_text()))
            for cell in found["cells"]
            if not cell["failed"]
        }
        text += [
            f"## {comparison.name}",
            "",
            *(f"- {told}" for told in found["protocol"]["told"]),
            "",
            found["table"],
            "",
        ]
        text += [
            f"Against {BASELINE} at the same seed and budget (test %, mean ± standard deviation of the differences):",
            "",
        ]
        text += [*against(found["cells"], results), "", CELLS, "|" + "---|" * 10]
        text += [row(cell, results) for cell in found["cells"]]
        text += ["", "Commands:", "", *(f"- `{cell['command']}`" for cell in found["cells"]), ""]
        for cell in found["cells"]:
            environment = environment or results.get(cell["name"], {}).get("environment", {})
            keep_cell(comparison / cell["name"], out / comparison.name / cell["name"])
        (out / comparison.name / "compare.json").write_text(json.dumps(found, indent=1) + "\n")
    said = {name: value for name, value in environment.items() if name != "argv"}
    text += ["Machine and versions: " + ", ".join(f"{name} {value}" for name, value in said.items()) + "."]
    (out / "table.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))


def without_folders(text: str) -> str:
    """Absolute paths (in quotes, after a blank or an equals sign) become their last part."""
    return re.sub(r"(?<=[\"\s=])/(?:[\w.=,+*-]+/)+(?=[\w.=,+*-])", "", text)


def against(cells: list[dict], results: dict[str, dict]) -> list[str]:
    """A line for each method and budget that has a seed in common with the baseline."""
    accuracy = {
        (cell["axes"]["method"], cell["axes"]["budget"], cell["axes"]["seed"]): accuracy_of(results[cell["name"]])
        for cell in cells
        if cell["name"] in results
    }
    lines = []
    for method, budget in dict.fromkeys((method, budget) for method, budget, _ in accuracy):
        gains = [
            value - accuracy[BASELINE, budget, seed]
            for (name, share, seed), value in accuracy.items()
            if (name, share) == (method, budget) and (BASELINE, budget, seed) in accuracy
        ]
        if gains and method != BASELINE:
            spread = f" ± {statistics.stdev(gains):.2f}" if len(gains) > 1 else ""
            lines.append(f"- {method}, {budget}: {statistics.mean(gains):+.2f}{spread} ({len(gains)} seed(s))")
    return lines or [f"- no {BASELINE} in this comparison"]


def row(cell: dict, results: dict[str, dict]) -> str:
    """A cell's own figures, or why it has none."""
    axes = cell["axes"]
    head = f"| {axes['method']} | {axes['budget']} | {axes['seed']} |"
    if cell["name"] not in results:
        return f"{head} {cell['failed']} |" + " |" * 6
    result = results[cell["name"]]
    dense, pruned = result["dense"], result["pruned"]
    base = results.get(cell["name"].replace(f"method-{axes['method']}_", f"method-{BASELINE}_"))
    gain = "" if base is None else f"{accuracy_of(result) - accuracy_of(base):+.2f}"
    left = " | ".join(f"{100 * pruned[name] / dense[name]:.1f}" for name in ("macs", "params"))
    accuracies = f"{result['validation_accuracy']:.2f} | {accuracy_of(result):.2f}"
    return f"{head} {accuracies} | {gain} | {left} | {cell['epochs']} | {result['seconds']['total']:.0f} |"


def accuracy_of(result: dict) -> float:
    """Of the smaller network, in percent."""
    return float(result["pruned"]["test_accuracy"])


def keep_cell(run: Path, folder: Path) -> None:
    """The run's own files, without the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("metrics.jsonl", "result.json", "config.json"):
        if (run / name).is_file():
            (folder / name).write_text(without_folders((run / name).read_text()))


if __name__ == "__main__":
    typer.run(main)
