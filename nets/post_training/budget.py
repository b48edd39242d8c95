"""The budget of a pruning after training: what a channel costs, what a layer's pruning costs the network, and the counts."""

import copy
import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from nets.budget import CLOSE, Budget
from nets.flow.difference import divergence
from nets.measure import measure
from nets.post_training.allocation import allocate, fill_curve, fill_up, share_evenly
from nets.post_training.plan import Plan
from nets.post_training.reconstruct import fit_columns, read_fit, write_fit
from nets.post_training.site_choice import as_problem, keep_last, rank_channels
from nets.post_training.site_rows import channel_columns, positions_of, sample_reader
from nets.post_training.sites import Layer, Site, find_norm, find_sites
from nets.post_training.stream import BATCH, Stream
from nets.removal import remove_channels
from perspective.errors import InputError

GRID = (1, 2, 3, 4, 5, 6, 7)  # eighths of a layer's channels at which its error is measured
TRIES = 12
COUNTED = ("macs", "params", "channels")


def choose_counts(
    dense: nn.Module,
    images: Tensor,
    sites: Sequence[Site],
    nodes: Sequence[fx.Node],
    plan: Plan,
    example: Tensor,
    say: Callable[[str], None],
    curves: Sequence[NDArray[np.float64]] | None = None,
) -> tuple[int, ...]:
    """Channels each site keeps, within the budget and close to it. InputError where it cannot be reached."""
    weights, low, target, high = _room(dense, sites, nodes, plan.budget, example)
    channels = [site.channels for site in sites]
    if plan.allocation == "even":
        curves = None
    elif curves is None:
        curves = measure_curves(dense, images, sites, nodes, plan, say)

    def counts_at(room: int) -> tuple[int, ...]:
        some = share_evenly(channels, weights, room) if curves is None else allocate(curves, weights, room)
        return fill_up(some, channels, weights, room)

    best: tuple[int, ...] | None = None
    for _ in range(TRIES):  # where a reader is the next site's writer, costs are not a sum: look for the sum that fits
        counts = counts_at(target)
        share = _share_at(dense, sites, counts, example, plan.budget.kind)
        if share <= plan.budget.share + 1e-9:
            best, low = counts, target
            if share >= (1 - CLOSE) * plan.budget.share or target >= high:
                break
        else:
            high = target
        if high - low <= 1:
            break
        target = (low + high + 1) // 2
    if best is None:
        raise InputError(f"--budget {plan.budget.kind}={plan.budget.share:g} cannot be reached; ask for more")
    say(f"channels kept: {', '.join(f'{s.name} {k} of {s.channels}' for s, k in zip(sites, best, strict=True))}")
    return best


def check_within_reach(dense: nn.Module, budget: Budget, example: Tensor, excluded: Sequence[str] = ()) -> None:
    """InputError where internal channels alone do not reach the budget, there are none, or the budget is of another kind."""
    sites, nodes = find_sites(dense, example, excluded)
    _room(dense, sites, nodes, budget, example)


def _room(
    dense: nn.Module, sites: Sequence[Site], nodes: Sequence[fx.Node], budget: Budget, example: Tensor
) -> tuple[list[int], int, int, int]:
    """Each site's cost of a channel; and of all its channels together the least, what the budget leaves them, and the most."""
    if budget.kind not in COUNTED:
        raise InputError(
            f"channels chosen from calibration images are counted in {', '.join(COUNTED)}, not in {budget.kind}; give such a "
            "--budget, or choose another method"
        )
    weights = channel_costs(dense, sites, nodes, example, budget.kind)
    low, high = sum(weights), sum(w * site.channels for w, site in zip(weights, sites, strict=True))
    whole = getattr(measure(dense, example), budget.kind)
    target = min(math.floor(budget.share * whole + 1e-6) - (whole - high), high)
    if target < low:
        least = math.ceil(1000 * (whole - high + low) / whole) / 1000
        reach = f"ask for at least {least:g}, or " if least < 1 else ""
        raise InputError(
            f"--budget {budget.kind}={budget.share:g} cannot be reached by internal channels alone; {reach}choose another method"
        )
    return weights, low, target, high


def channel_costs(
    model: nn.Module, sites: Sequence[Site], nodes: Sequence[fx.Node], example: Tensor, kind: str
) -> list[int]:
    """What one channel of each site costs, its neighbours whole: multiply-accumulates, parameters, or channels."""
    modules, stream = dict(model.named_modules()), Stream(model, nodes, example)
    costs = []
    for site in sites:
        writer, reader = modules[site.writer.name], modules[site.reader.name]
        filters, columns = writer.weight[0].numel(), reader.weight.numel() // site.channels
        if kind == "channels":
            costs.append(int(isinstance(writer, nn.Conv2d)))
        elif kind == "params":
            norm = 0 if site.writer.norm is None else sum(p[0].numel() for p in modules[site.writer.norm].parameters())
            costs.append(filters + columns + norm + (writer.bias is not None))
        else:
            places = (
                positions_of(writer, stream, site.writer.exit),
                positions_of(reader, stream, site.reader.exit),
            )
            costs.append(filters * places[0] + columns * places[1])
    return costs


def measure_curves(
    dense: nn.Module,
    images: Tensor,
    sites: Sequence[Site],
    nodes: Sequence[fx.Node],
    plan: Plan,
    say: Callable[[str], None],
) -> list[NDArray[np.float64]]:
    """For each site (channels + 1,): mean KL(dense || pruned) of the answers, that site alone pruned, greedily, and refitted.

    Measured on the first `probe` images (whole batches) at eighths of the channels, linear between them.
    """
    end = next(node for node in reversed(nodes) if node.op == "output").args[0]
    if not isinstance(end, fx.Node):
        raise InputError("the allocation compares class scores; give a network with one output, or allocation='even'")
    model = copy.deepcopy(dense)
    modules, streams = dict(model.named_modules()), (Stream(dense, nodes, images), Stream(model, nodes, images))
    batches = max(1, math.ceil(plan.probe / BATCH))
    truth = torch.cat([scores for (scores,) in streams[0].look([end], batches)])
    if truth.ndim != 2:
        raise InputError(
            "the allocation compares class scores (batch, classes); use allocation='even' for this network"
        )
    curves = []
    for index, site in enumerate(sites):
        for stream in streams:
            stream.advance(site.writer.node)
        samples = sample_reader(site, *streams, plan.positions, (plan.seed, index), True)
        reader, norm = modules[site.reader.name], find_norm(modules, site.reader)
        groups, trained = channel_columns(reader, site.channels), read_fit(reader, norm)
        ranked = rank_channels("greedy", site, modules, partial(as_problem, samples), groups, samples.rows.ridge)
        state = copy.deepcopy([m.state_dict() for m in (reader, norm) if m is not None])
        found = {site.channels: 0.0}
        for count in sorted({1, *(site.channels * part // 8 for part in GRID)} - {0, site.channels}):
            fit = fit_columns(samples.rows, samples.targets, trained, keep_last(ranked, count)[groups])
            write_fit(reader, norm, fit, samples.rows)
            found[count] = divergence(torch.cat([scores for (scores,) in streams[1].look([end], batches)]), truth)
        for module, saved in zip([m for m in (reader, norm) if m is not None], state, strict=True):
            module.load_state_dict(saved)
        curves.append(fill_curve(found, site.channels))
        say(f"{site.name}: " + ", ".join(f"{k}: {v:.4f}" for k, v in sorted(found.items())))
    return curves


def share_of(dense: nn.Module, smaller: nn.Module, example: Tensor, kind: str) -> float:
    """What `smaller` has left of the dense network's macs, params or channels."""
    return getattr(measure(smaller, example), kind) / getattr(measure(dense, example), kind)


@torch.no_grad()
def zero_writer(modules: dict[str, nn.Module], writer: Layer, gone: NDArray[np.bool_]) -> None:
    """Set the channels `gone` of a layer, and of its normalisation, to zero, so that removal finds them."""
    where = torch.from_numpy(np.flatnonzero(gone))
    for name in (writer.name, writer.norm):
        for parameter in [] if name is None else modules[name].parameters():
            parameter[where] = 0


def _share_at(dense: nn.Module, sites: Sequence[Site], counts: Sequence[int], example: Tensor, kind: str) -> float:
    trial = copy.deepcopy(dense)
    modules = dict(trial.named_modules())
    for site, count in zip(sites, counts, strict=True):
        zero_writer(modules, site.writer, np.arange(site.channels) >= count)
    return share_of(dense, remove_channels(trial, example)[0], example, kind)
