"""Asked for half of the operations (or parameters), what does each network get, and does it answer as before?

python -m benchmarks.budget_of_every_network [--nets resnet20,vit_b_16] [--budget macs=0.5] [--size 64] [--out FOLDER]

Random weights and statistics (benchmarks/half_zeroed.py); channels go by the rank of their norm within their layer, both with
the paper's groups and with coupled ones. Seconds are those of finding the groups, of reaching the budget (a bisection over
removed and measured copies) and of the removal itself together; the difference is that of float32 logits.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

from benchmarks.environment import command_line, environment, keep
from benchmarks.half_zeroed import disturb, pictures
from nets.budget import parse_budget, reach_budget
from nets.gauge import Gauge
from nets.groups import channel_groups
from nets.networks import ALL, build
from nets.removal import remove_channels
from perspective.errors import InputError


@final
@dataclass(frozen=True)
class Row:
    """One network, one kind of groups; `zeroed` of `groups` were made zero, reached is the share left; or why it failed."""

    net: str
    kind: str
    groups: int = 0
    zeroed: int = 0
    reached: float = 0.0
    difference: float = 0.0
    seconds: float = 0.0
    reason: str = ""


def examine(name: str, budget: str, size: int, coupled: bool) -> Row:
    """Build, disturb, reach the budget, remove."""
    cifar = name.endswith(("_cifar", "vgg16_bn")) or name in [f"resnet{d}" for d in (20, 32, 44, 56, 110)]
    size = 32 if cifar else size
    torch.manual_seed(0)
    model = build(name, 10, 3, image_size=size).eval()
    disturb(model, pictures(8, size, seed=5), torch.Generator().manual_seed(2))
    inputs, kind = pictures(2, size, seed=1), "coupled" if coupled else "paper's"
    begin = time.perf_counter()
    try:
        groups = channel_groups(model, inputs, coupled)
        gauge = Gauge(parse_budget(budget), model, inputs)
        whole = gauge.whole
        taken = reach_budget(model, groups, inputs, budget, whole=whole)
        smaller, difference = remove_channels(model, inputs)
    except InputError as error:
        return Row(name, kind, reason=str(error).splitlines()[0][:90])
    seconds = time.perf_counter() - begin
    count = sum(layer.channels for layer in groups.layers)
    return Row(name, kind, count, len(taken), gauge.share(smaller), difference, seconds)


def table(rows: list[Row], budget: str) -> str:
    """Markdown, a row for each network and kind of groups."""
    share = parse_budget(budget).share
    lines = [
        f"| network | groups | number | zeroed | {budget}, reached | within 1 % from below | difference | seconds |"
    ]
    lines.append("|" + "---|" * 8)
    for row in rows:
        if row.reason:
            lines.append(f"| {row.net} | {row.kind} | | | {row.reason} | | | |")
            continue
        close = "yes" if 0.99 * share <= row.reached <= share else "no"
        lines.append(
            f"| {row.net} | {row.kind} | {row.groups} | {row.zeroed} | {row.reached:.4f} | {close} | {row.difference:.1e} "
            f"| {row.seconds:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Every network asked for, both kinds of groups; prints the table and keeps it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", default=",".join(f.__name__ for f in ALL))
    parser.add_argument("--budget", default="macs=0.5")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows = []
    for name in asked.nets.split(","):
        for coupled in (False, True):
            rows.append(examine(name, asked.budget, asked.size, coupled))
            print(table(rows[-1:], asked.budget).splitlines()[-1], flush=True)
    text = table(rows, asked.budget)
    print(text)
    if asked.out is not None:
        surroundings = environment(
            command_line("benchmarks.budget_of_every_network"), ("torch", "torchvision", "torch-pruning")
        )
        keep(asked.out, text, surroundings)


if __name__ == "__main__":
    main()
