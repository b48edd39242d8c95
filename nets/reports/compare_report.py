"""compare.html: the runs of a comparison in one table, means over seeds, and accuracy against MACs with the front marked."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from nets.reports.compare import Comparison, Group, Spread
from nets.reports.compare_row import Row
from nets.training.run_folder import write_json
from perspective.drawing import BLUE, GREEN, INK, ORANGE, PALE, PURPLE, Picture, drawing
from perspective.errors import InputError
from perspective.files import write_text

COLORS = (BLUE, ORANGE, GREEN, PURPLE)
MARKS = "osD^vP"


def write_comparison(
    comparison: Comparison,
    out: Path,
    told: Sequence[str] = (),
    commands: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Path:
    """Write OUT/compare.json and OUT/compare.html; returns the page's path. InputError where OUT cannot be written.

    told: sentences about how the runs were made; commands: by run, what repeats it; more: what compare.json holds besides.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(spread=spread, known=known)
    template = environment.from_string(files("nets.reports").joinpath("compare.html").read_text(encoding="utf-8"))
    sources = dict.fromkeys(group.data for group in comparison.groups)
    page = template.render(
        comparison=comparison,
        finished=sum(row.status == "finished" for row in comparison.rows),
        repeated=any(len(group.seeds) > 1 for group in comparison.groups),
        pictures=[front_picture(comparison, data) for data in sources],
        label=label,
        told=told,
        commands=commands or {},
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "compare.json", {**comparison.as_json(), **(more or {})})
    except OSError as error:
        raise InputError(f"cannot write {out / 'compare.json'} ({error.strerror}); choose another --out") from error
    write_text(out / "compare.html", page)
    return out / "compare.html"


def front_picture(comparison: Comparison, data: str) -> Picture:
    """Mean test accuracy against mean MACs (millions) of every group on `data`; dots: single runs; line: the front."""
    groups = [group for group in comparison.groups if group.data == data]
    front = sorted((_point(group) for group in groups if group.on_front), key=lambda point: (point[0], -point[1]))
    methods = list(dict.fromkeys(group.method for group in groups))
    with drawing(
        f"Accuracy against MACs: {data}",
        "Further left is less arithmetic, higher is better. A large mark is a mean over seeds, with one standard deviation "
        "up and down where there is more than one; small dots are single runs. The line joins the marks that none of the "
        "others beats in both.",
        f"Test accuracy against MACs of {len(groups)} settings on {data}; {len(front)} of them are on the front",
        width=7.6,
        height=4.6,
    ) as picture:
        ax = picture.axes
        ax.plot(*zip(*front, strict=True), color=PALE, lw=1.4, zorder=1, label="front")
        named: set[str] = set()
        for group in groups:
            number = methods.index(group.method)
            color = COLORS[number % len(COLORS)]
            mark = MARKS[number % len(MARKS)]
            x, y = _point(group)
            ax.errorbar(
                *([x], [y], [group.figures["pruned_accuracy"].std or 0.0]),
                **{"fmt": mark, "ms": 9, "color": color, "mec": INK if group.on_front else color, "mew": 1.6},
                label="_" if group.method in named else group.method,
            )
            named.add(group.method)
            if len(group.rows) > 1:
                runs = [comparison.rows[k] for k in group.rows]
                ax.plot(
                    [(run.macs or 0) / 1e6 for run in runs],
                    [run.pruned_accuracy for run in runs],
                    ".",
                    color=color,
                    ms=5,
                )
        for net, macs, accuracy in sorted({_dense(group) for group in groups if group.method != "none"}):
            ax.plot([macs], [accuracy], "x", color=INK, ms=7, label="_")
            place = {"xytext": (-7, -13), "textcoords": "offset points", "ha": "right"}
            ax.annotate(f"{net}, dense", (macs, accuracy), **place, color=INK, fontsize=9)
        ax.set_xlim(0, 1.06 * ax.get_xlim()[1])
        ax.set_xlabel("multiply-accumulates for one picture (millions)")
        ax.set_ylabel("test accuracy (%)")
        ax.legend(loc="lower right")
    return picture


def comparison_table(comparison: Comparison) -> str:
    """The rows, and the means where there is more than one seed, for the terminal."""
    head = (
        "run",
        "net",
        "data",
        "method",
        "seed",
        "dense %",
        "pruned %",
        "MACs",
        "params",
        "seconds",
        "strength",
        "alpha",
    )
    lines = [list(head)]
    for row in comparison.rows:
        lines.append([row.run, *known_fields(row)])
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    text = [_aligned(line, widths) for line in lines]
    for row, place in zip(comparison.rows, range(1, len(text)), strict=True):
        if row.note:
            text[place] += f"  {row.note if row.status == 'finished' else f'{row.status}: {row.note}'}"
    for group in comparison.groups:
        if len(group.seeds) > 1 or group.on_front:
            figures = group.figures
            text.append(
                f"{label(group)}: {spread(figures['pruned_accuracy'])} % at {spread(figures['macs_share'], 100)} % of the MACs"
                + (", on the front" if group.on_front else "")
            )
    return "\n".join(text)


def known_fields(row: Row) -> list[str]:
    """net to alpha as short texts, "-" for what is not known."""
    shares = [None if share is None else f"{100 * share:.1f} %" for share in (row.macs_share, row.params_share)]
    accuracies = [None if value is None else f"{value:.2f}" for value in (row.dense_accuracy, row.pruned_accuracy)]
    rest = [None if value is None else f"{value:.4g}" for value in (row.strength, row.alpha)]
    seconds = None if row.seconds is None else f"{row.seconds:.1f}"
    return [known(v) for v in (row.net, row.data, row.method, row.seed, *accuracies, *shares, seconds, *rest)]


def label(group: Group) -> str:
    """resnet20 digits spr macs=0.5, 3 seeds"""
    words = [group.net, group.data, group.method, *([] if group.budget is None else [group.budget])]
    return f"{' '.join(words)}, {len(group.seeds)} seed{'s' if len(group.seeds) > 1 else ''}"


def spread(value: Spread, scale: float = 1.0, digits: int = 2) -> str:
    """91.20 ± 0.15; a single run has no ±"""
    mean = f"{scale * value.mean:.{digits}f}"
    return mean if value.std is None else f"{mean} ± {scale * value.std:.{digits}f}"


def known(value: object) -> str:
    """Its text, or "-" for None."""
    return "-" if value is None else str(value)


def _point(group: Group) -> tuple[float, float]:
    return group.figures["macs"].mean / 1e6, group.figures["pruned_accuracy"].mean


def _dense(group: Group) -> tuple[str, float, float]:
    return group.net, group.figures["dense_macs"].mean / 1e6, group.figures["dense_accuracy"].mean


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(
        word.ljust(width) if k < 4 else word.rjust(width)
        for k, (word, width) in enumerate(zip(line, widths, strict=True))
    )
