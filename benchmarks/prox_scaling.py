"""How the fused prox grows: with the number of weights, and with the size of a group, the copy of as many bytes beside it."""

from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import nn

from benchmarks.prox_device import captured, seconds_of
from nets.fused.sweep import prox_fused
from nets.groups import ChannelGroups
from nets.structures.slices import Layer, Span
from perspective import derive
from perspective.catalogue.elastic import elastic
from perspective.catalogue.huber import huber
from perspective.catalogue.power import power
from perspective.catalogue.spr import spr

SIZE, NUMBERS = 576, 4_194_304  # numbers in a group; numbers in all, where the size grows
SIZES = (1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536)
VALUES = {"alpha": 0.3, "beta": 0.02, "c": 0.7, "d": 0.4, "M": 0.05}
COSTS = {"SPR": spr, "elastic": elastic, "Huber": huber, "power 3/2": power}

Row = tuple[str, int, int, np.ndarray, np.ndarray, str]  # cost, numbers, size, seconds fused, seconds copy, shares


def measure_scaling(largest: float, rounds: int, device: torch.device) -> list[Row]:
    """SPR over numbers and sizes; the other costs at one point of each."""
    counts = [10**k for k in range(5, 9) if 10**k <= largest]
    found = [_measure("SPR", count // SIZE, SIZE, rounds if count < 10**8 else 5, device) for count in counts]
    found += [_measure("SPR", NUMBERS // size, size, rounds, device) for size in SIZES]
    return found + [_measure(name, NUMBERS // SIZE, SIZE, min(rounds, 7), device) for name in COSTS if name != "SPR"]


def scaling_tables(found: list[Row], out: Path | None) -> list[str]:
    """Markdown, and a picture in the folder."""
    lines = ["\n### Scaling, groups whose scale spreads over two decades\n"]
    lines += [
        "| cost | numbers | in a group | fused, ms | copy, ms | fused / copy | groups |",
        "|---|---|---|---|---|---|---|",
    ]
    for cost, count, size, fused, copy, shares in found:
        cells = (cost, f"{count:,}", f"{size:,}", *(f"{np.median(x) * 1e3:.3f}" for x in (fused, copy)))
        lines.append("| " + " | ".join((*cells, f"{np.median(fused / copy):.2f}", shares)) + " |")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        _draw(found, out / "scaling.svg")
    return lines


def _measure(cost: str, channels: int, size: int, rounds: int, device: torch.device) -> Row:
    generator = torch.Generator().manual_seed(0)
    spread = 10 ** (2.5 * torch.rand(channels, 1, generator=generator) - 2)
    weights = nn.Parameter((torch.randn(channels, size, generator=generator) * (spread / size**0.5)).to(device))
    groups = ChannelGroups((Layer("layer", None, (Span(weights),), channels, ("layer",)),))
    regularizer = derive(COSTS[cost]())
    regulariser = regularizer.bind(**{p: VALUES[p] for p in regularizer.block.parameters})
    kept, target = weights.detach().clone(), torch.empty(channels, size, device=device)
    steps, regularisers = {"layer": 0.02}, {"layer": regulariser}
    report = prox_fused(groups, steps, regularisers, report=True)["layer"]
    zero, y = (torch.as_tensor(x).double().cpu().numpy() for x in (report.zero, report.indicator))
    shares = f"{zero.mean():.0%} zero, {((zero == 0) & (y < 1)).mean():.0%} with 0 < y < 1"
    work = captured(lambda: prox_fused(groups, steps, regularisers), device)
    duplicate = captured(lambda: target.copy_(kept), device)
    fused, copy = [], []
    for _ in range(rounds):
        with torch.no_grad():
            weights.copy_(kept)
        fused.append(seconds_of(work, device))
        copy.append(seconds_of(duplicate, device))
    return cost, channels * size, size, np.array(fused), np.array(copy), shares


def _draw(found: list[Row], path: Path) -> None:
    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), constrained_layout=True)
    left, right = figure.subplots(1, 2)
    spr_rows = [row for row in found if row[0] == "SPR"]
    sizes = [row for row in spr_rows if row[1] > NUMBERS // 2 and row[1] <= NUMBERS]
    counts = [row for row in spr_rows if row not in sizes]
    for axes, rows, place, label in ((left, counts, 1, "weights"), (right, sizes, 2, "numbers in a group")):
        x = [row[place] for row in rows]
        axes.loglog(x, [np.median(row[3]) * 1e3 for row in rows], "o-", color="#0072B2", label="fused prox (SPR)")
        axes.loglog(
            x, [np.median(row[4]) * 1e3 for row in rows], "s--", color="#9CA3AF", label="copy of the same bytes"
        )
        axes.set(
            xlabel=label, ylabel="milliseconds", title=f"{NUMBERS:,} weights" if place == 2 else f"groups of {SIZE}"
        )
        axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
