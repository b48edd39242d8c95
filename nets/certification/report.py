"""report.html of `perspective certify`: what was proven for each layer, how far simple choices are from it, bounds over time."""

import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from nets.training.run_folder import read_json
from perspective.bounds_picture import bounds_picture
from perspective.drawing import BLUE, GREEN, ORANGE, Picture, drawing
from perspective.errors import InputError
from perspective.files import write_text


def write_certify_report(out: Path) -> Path:
    """Write OUT/report.html from OUT/result.json; returns its path. InputError where that file is missing or unfinished."""
    from jinja2 import Environment, StrictUndefined

    result = read_json(out / "result.json")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(percent=percent)
    template = environment.from_string(files("nets.certification").joinpath("certify.html").read_text(encoding="utf-8"))
    try:
        page = template.render(_content(result))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{out} does not hold the figures of a certification ({error!r}); run it again") from error
    write_text(out / "report.html", page)
    return out / "report.html"


def _content(result: Mapping[str, Any]) -> dict[str, Any]:
    solved = [layer for layer in result["layers"] if "error" not in layer]
    return {
        "result": result,
        "solved": solved,
        "failed": [layer for layer in result["layers"] if "error" in layer],
        "proven": sum(layer["status"] == "optimal" for layer in solved),
        "worst": max((layer["gap"] for layer in solved), default=math.nan),
        "asked": describe_ask(result["settings"]["ask"]),
        "distances": distances_picture(solved) if solved else None,
        "commands": [solve_command(layer) for layer in solved],
        "bounds": [bounds_picture(layer["history"], layer["name"], 4.2, 2.8) for layer in solved],
    }


def solve_command(layer: Mapping[str, Any]) -> str:
    """The command that solves the layer's problem again, in the folder of the certification."""
    numbers = layer["parameters"]
    words = f'perspective solve problems/{layer["name"]}.npz --cost "alpha*s**2" --price 1 --bound M'
    words += f" --set alpha={numbers['alpha']!r} --set M={numbers['M']!r} --strength {numbers['strength']!r}"
    return words if layer["form"] == "price" else f"{words} --at-most {layer['count_asked']}"


def describe_ask(ask: Mapping[str, Any]) -> str:
    """The question in words: "keep 0.5 of the channels (at the price that the greedy path pays for it)"."""
    if ask["price"] is not None:
        return f"a channel costs {ask['price']:g} of the layer's output energy"
    number = ask["keep"] if ask["at_most"] is None else ask["at_most"]
    words = f"{100 * number:g} % of the channels" if number < 1 else f"{number:g} channels"
    return (
        f"at most {words}" if ask["at_most"] is not None else f"about {words}, by the price at which greedy keeps them"
    )


def distances_picture(layers: Sequence[Mapping[str, Any]]) -> Picture:
    """Bars: how far above the proven bound magnitude, greedy and the solver's own choice are, layer by layer."""
    kinds = (("magnitude", ORANGE), ("greedy", GREEN), ("incumbent", BLUE))
    with drawing(
        "Above the proven bound",
        "How much of each choice's objective could still be saved, at most. The solver's own bar is its gap: where it has "
        "no length, its choice is the best there is, and the others' bars are their true distance from it.",
        "Distance from the proven bound of magnitude, greedy and the solver's choice, for each layer",
        width=7.6,
        height=1.4 + 0.42 * len(layers),
    ) as picture:
        ax = picture.axes
        for k, (name, color) in enumerate(kinds):
            rows = [row + 0.27 * (k - 1) for row in range(len(layers))]
            found = [100 * layer["choices"].get(name, {}).get("above_bound", math.nan) for layer in layers]
            ax.barh(rows, found, height=0.25, color=color, label="solver" if name == "incumbent" else name)
        ax.set_yticks(range(len(layers)), [str(layer["name"]) for layer in layers], fontsize=9)
        ax.set_ylim(len(layers) - 0.4, -0.6)
        ax.set_xlim(left=0.0)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("% of the choice's own objective")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return picture


def percent(value: float) -> str:
    """0.01234 -> 1.23 %; rounding is no distance"""
    if value is None or not math.isfinite(value):
        return "unknown"
    return f"{100 * (value if abs(value) > 1e-8 else 0.0):.3g} %"


def certify_table(result: Mapping[str, Any]) -> Any:
    """The table for the terminal, one row a layer."""
    from rich.table import Table

    table = Table(title="Certified channel choices", caption=describe_ask(result["settings"]["ask"]))
    table.add_column("layer", no_wrap=True)
    for name in ("kept", "error", "gap", "status", "seconds", "magnitude", "greedy", "found by"):
        table.add_column(name, justify="right", no_wrap=True)
    for layer in result["layers"]:
        if "error" in layer:
            table.add_row(layer["name"], *["-"] * 3, "failed")
            continue
        table.add_row(
            layer["name"],
            f"{layer['kept']}/{layer['channels']}",
            percent(layer["output_error"]),
            percent(layer["gap"]),
            layer["status"].replace("_", " "),
            f"{layer['seconds']:.1f}",
            *(f"+{percent(layer['choices'][name]['above_best'])}" for name in ("magnitude", "greedy")),
            layer["found_by"],
        )
    return table
