"""How much of each network goes, and does it answer as before, when a random half of its groups is zero?

python -m benchmarks.every_network [--nets resnet20,vit_b_16] [--size 224] [--batch 2] [--share 0.5] [--out FOLDER]

Random weights, scales, shifts and statistics (benchmarks/half_zeroed.py says how, and which groups). The logits differ by
about 1 from picture to picture. The difference is the larger of two: the one that remove_channels measured itself, and one
on pictures that it never saw, divided by max(1, largest logit); "kept shifts" is the same in float64 with every beta left
alone, so that constants have to be folded.
Seconds are those of remove_channels on the float32 network, its two comparisons included.
"""

import argparse
import copy
import time
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from benchmarks.environment import command_line, environment, keep
from benchmarks.half_zeroed import disturb, pictures, zero_groups
from nets.measure import measure
from nets.networks import ALL, build
from nets.removal import remove_channels

LIMITS = {torch.float32: 1e-4, torch.float64: 1e-10}


@final
@dataclass(frozen=True)
class Row:
    """macs and params are shares of the masked network's; the differences are explained at the top."""

    net: str
    groups: int
    zeroed: int
    stuck: int
    macs: float
    params: float
    single: float
    double: float
    shifts: float
    shifts_macs: float
    logit: float
    seconds: float


def examine(name: str, size: int, batch: int, share: float) -> Row:
    """Zero, remove, compare; in float32 and float64, and in float64 with the shifts left alone."""
    cifar = name.endswith(("_cifar", "vgg16_bn")) or name in [f"resnet{d}" for d in (20, 32, 44, 56, 110)]
    size = 32 if cifar else size
    inputs = pictures(batch, size, seed=1)
    torch.manual_seed(0)
    model = build(name, 10, 3, image_size=size).eval()
    lazy = copy.deepcopy(model)
    zeroed = zero_groups(model, share, torch.Generator().manual_seed(3))
    zero_groups(lazy, share, torch.Generator().manual_seed(3), shifts=False)
    settling = torch.cat(
        [pictures(8, size, seed=5), torch.randn(8, 3, size, size, generator=torch.Generator().manual_seed(6))]
    )
    disturb(model, settling, torch.Generator().manual_seed(2))
    disturb(lazy, settling, torch.Generator().manual_seed(2), shifts=False)
    lazy = lazy.double()
    begin = time.perf_counter()
    smaller, single = remove_channels(model, inputs)
    seconds = time.perf_counter() - begin
    single = max(single, difference(model, smaller, inputs))
    exact, double = remove_channels(copy.deepcopy(model).double(), inputs.double())
    double = max(double, difference(copy.deepcopy(model).double(), exact, inputs.double()))
    folded, shifts = remove_channels(lazy, inputs.double())
    shifts = max(shifts, difference(lazy, folded, inputs.double()))
    with torch.no_grad():
        logit = float(model(inputs).abs().max())
    before, after, left = (measure(m, x) for m, x in ((model, inputs), (smaller, inputs), (folded, inputs.double())))
    return Row(
        *(name, zeroed.groups, zeroed.zeroed, smaller.removal.stuck, after.macs / before.macs),
        *(after.params / before.params, single, double, shifts, left.macs / before.macs, logit, seconds),
    )


@torch.no_grad()
def difference(model: nn.Module, smaller: nn.Module, inputs: Tensor) -> float:
    """The largest difference on inputs that removal has not seen, over max(1, largest logit)."""
    other = 2 * pictures(len(inputs), inputs.shape[-1], seed=4).to(inputs)
    one, two = model.eval()(other), smaller.eval()(other)
    return float((one - two).abs().max()) / max(1.0, float(one.abs().max()))


def table(rows: list[Row]) -> str:
    """Markdown; a difference over its limit is marked."""
    lines = [
        "| network | groups | zeroed | zero filters left | MACs left | parameters left | difference, float32 | float64 "
        "| kept shifts, float64 | MACs left with kept shifts | largest logit | seconds |",
        "|---" * 12 + "|",
    ]
    for r in rows:
        marks = [
            f"{value:.1e}{'' if value <= limit else ' **over**'}"
            for value, limit in (
                (r.single, LIMITS[torch.float32]),
                (r.double, LIMITS[torch.float64]),
                (r.shifts, LIMITS[torch.float64]),
            )
        ]
        lines.append(
            f"| {r.net} | {r.groups} | {r.zeroed} | {r.stuck} | {100 * r.macs:.1f} % | {100 * r.params:.1f} % | "
            + " | ".join(marks)
            + f" | {100 * r.shifts_macs:.1f} % | {r.logit:.3g} | {r.seconds:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Read the flags, examine the networks one after the other, print the table, keep it where --out says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", default=",".join(factory.__name__ for factory in ALL))
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.backends.mha.set_fastpath_enabled(False)  # its products are not counted by torch's flop counter
    rows = []
    for name in options.nets.split(","):
        rows.append(examine(name, options.size, options.batch, options.share))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    if options.out is not None:
        keep(
            options.out,
            table(rows),
            environment(command_line("benchmarks.every_network"), ("torch", "torchvision")),
        )


if __name__ == "__main__":
    main()
