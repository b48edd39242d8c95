"""The table of a comparison of methods, in Markdown: a line for each method and budget, mean ± standard deviation over seeds.

What failed is in the table: how many of the seeds, and why.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from nets.reports.compare import Comparison, Group
from nets.reports.compare_report import spread

HEAD = (
    "method",
    "budget",
    "dense %",
    "test %",
    "MACs left %",
    "MACs",
    "parameters left %",
    "parameters",
    "seconds",
    "seeds",
)


@final
@dataclass(frozen=True)
class Asked:
    """A cell as it was asked for, whether or not it has a result. sentence: why it has none."""

    method: str
    budget: str
    sentence: str


def means_table(comparison: Comparison, asked: Sequence[Asked]) -> str:
    """asked: one for each of comparison.rows, in the same order."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, cell in enumerate(asked):
        places.setdefault((cell.method, cell.budget), []).append(place)
    lines = [_line(HEAD), "|" + "---|" * len(HEAD)]
    for (method, budget), rows in places.items():
        groups = [group for group in comparison.groups if set(group.rows) & set(rows)]
        lines += [_line((method, budget, *_figures(group))) for group in groups]
        failed = [asked[place].sentence for place in rows if asked[place].sentence]
        if failed:
            words = (method, budget, *["-"] * (len(HEAD) - 3), f"{len(failed)} of {len(rows)} failed: {failed[0]}")
            lines.append(_line(words))
    return "\n".join(lines)


def _figures(group: Group) -> tuple[str, ...]:
    figures = group.figures
    return (
        spread(figures["dense_accuracy"]),
        spread(figures["pruned_accuracy"]),
        spread(figures["macs_share"], 100),
        spread(figures["macs"], digits=0),
        spread(figures["params_share"], 100),
        spread(figures["params"], digits=0),
        spread(figures["seconds"], digits=1),
        ", ".join(map(str, group.seeds)),
    )


def _line(words: Sequence[str]) -> str:
    return "| " + " | ".join(word.replace("|", "/") for word in words) + " |"
