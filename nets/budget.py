"""Reach a budget: zero further channels in the order of the method's scores until the physically smaller network fits.

No formula stands for the count: each candidate is a copy of the network with its channels zeroed, removed and measured.
Channels taken are nested along the order, so the count falls with their number and bisection is exact; where the last
channel overshoots, dearer ones are given back as long as the network still fits.
"""

import copy
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from nets.gauge import KINDS, Budget, Gauge, parse_budget
from nets.groups import ChannelGroups
from nets.limits import Limits
from nets.measure import Measurement
from nets.removal import remove_channels
from perspective.errors import InputError

__all__ = ["KINDS", "Budget", "Gauge", "Limits", "channels_for_budget", "check_reachable", "parse_budget"]

CLOSE = 0.01  # a budget missed from below by more than this is worth giving channels back
LOOKS = 24

Channel = tuple[str, int]


def even(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each score replaced by its rank within the layer, as a share of the layer: all layers lose in proportion.
    Channels of score 0 (zero already) keep it."""
    ranked = {}
    for name, values in scores.items():
        ranks = torch.empty_like(values, dtype=torch.float64)
        ranks[torch.argsort(values, stable=True)] = torch.arange(1, len(values) + 1, dtype=torch.float64)
        ranked[name] = torch.where(values > 0, ranks / len(values), 0.0)
    return ranked


def removal_order(
    groups: ChannelGroups, scores: Mapping[str, Tensor], limits: Limits | None = None
) -> list[tuple[float, Channel]]:
    """(score, (layer, channel)) ascending, without the channels each layer must keep."""
    limits = Limits() if limits is None else limits
    order = []
    for layer in groups.layers:
        ascending = torch.argsort(scores[layer.name], stable=True).tolist()
        free = layer.channels - limits.least(layer.channels)
        order += [(float(scores[layer.name][k]), (layer.name, k)) for k in ascending[:free]]
    return sorted(order)


def zero_channels(groups: ChannelGroups, channels: list[Channel]) -> None:
    """Set the groups of these channels to zero, in the network's own parameters."""
    for layer in groups.layers:
        chosen = [k for name, k in channels if name == layer.name]
        if chosen:
            rows = groups.rows(layer)
            rows[chosen] = 0
            groups.write(layer, rows)


def share_left(model: nn.Module, groups: ChannelGroups, gauge: Gauge, channels: list[Channel]) -> float:
    """The share of the dense network that is left when `channels` are zeroed and all zero channels removed; `model` is not
    changed."""
    trial, trial_groups = copy.deepcopy((model, groups))
    zero_channels(trial_groups, channels)
    smaller, _ = remove_channels(trial, gauge.example)
    return gauge.share(smaller)


def check_reachable(model: nn.Module, groups: ChannelGroups, gauge: Gauge, limits: Limits | None = None) -> None:
    """InputError with the reachable range where even the fewest channels allowed cost more than the budget."""
    limits = Limits() if limits is None else limits
    scores = {layer.name: torch.arange(1, layer.channels + 1, dtype=torch.float64) for layer in groups.layers}
    order = removal_order(groups, scores, limits)
    least = share_left(model, groups, gauge, [channel for _, channel in order])
    if least > gauge.budget.share:
        raise InputError(
            f"--budget {gauge.budget.kind}={gauge.budget.share:g} cannot be reached: every layer keeps at least "
            f"{limits.floor:.0%} of its channels, so ask for between {math.ceil(1000 * least) / 1000:g} and 1"
        )


def channels_for_budget(
    model: nn.Module, groups: ChannelGroups, gauge: Gauge, scores: Mapping[str, Tensor], limits: Limits | None = None
) -> list[Channel]:
    """The channels to zero so that at most the budget is left; none where it is met already.

    model, groups: network and its groups. Channels that are zero already are not listed. InputError where the order ends
    above the budget.
    """
    limits = Limits() if limits is None else limits
    order = removal_order(groups, scores, limits)
    alive = {layer.name: groups.alive(layer) for layer in groups.layers}
    order = [entry for entry in order if alive[entry[1][0]][entry[1][1]]]

    def taken(count: int) -> list[Channel]:
        return _rounded(groups, alive, [channel for _, channel in order[:count]], limits)

    def left(channels: list[Channel]) -> float:
        return share_left(model, groups, gauge, channels)

    share = gauge.budget.share
    if left(taken(0)) <= share:
        return taken(0)
    count = _first(lambda k: left(taken(k)) <= share, 0, len(order))
    if count is None:
        raise InputError(
            f"--budget {gauge.budget.kind}={share:g} cannot be reached from the present network; ask for more"
        )
    chosen = taken(count)
    best, looks = left(chosen), 0
    for k in range(count - 2, -1, -1):  # the last one cannot go back: without it the budget is not met
        if share - best <= CLOSE * share or looks >= LOOKS:
            break
        back = _give_back(chosen, order[k][1], limits)
        if back is None:
            continue
        looks += 1
        now = left(back)
        if best < now <= share:
            chosen, best = back, now
    return chosen


def reach_budget(
    model: nn.Module,
    groups: ChannelGroups,
    example_inputs: Tensor,
    budget: str | Budget,
    *,
    whole: Measurement | None = None,
    scores: Mapping[str, Tensor] | None = None,
    limits: Limits | None = None,
) -> list[Channel]:
    """Zero channels of `model`, in place, until what `remove_channels` leaves is within the budget; returns them.

    budget: "macs=0.5", "params=0.3" or "channels=0.5". whole: counts of the dense network, if `model` holds zeros already
    (default: as it stands). scores: by layer name (channels,), what goes first is lowest; default: ranks of the norms in each
    layer.
    InputError with the reachable range where the budget is out of reach.
    """
    asked = parse_budget(budget) if isinstance(budget, str) else budget
    if asked.kind == "latency" and whole is not None:
        raise InputError("a latency budget is measured against the network as it stands; leave whole= out")
    gauge = Gauge(asked, copy.deepcopy(model), example_inputs, whole)
    check_reachable(model, groups, gauge, limits)
    norms = {layer.name: groups.rows(layer).double().norm(dim=1).cpu() for layer in groups.layers}
    taken = channels_for_budget(model, groups, gauge, even(norms) if scores is None else scores, limits)
    zero_channels(groups, taken)
    return taken


def _rounded(
    groups: ChannelGroups, alive: Mapping[str, Tensor], channels: list[Channel], limits: Limits
) -> list[Channel]:
    """The channels of the order that go once every layer keeps a multiple of round_to; zero channels not listed."""
    if limits.round_to == 1:
        return channels
    out: list[Channel] = []
    for layer in groups.layers:
        mine = [channel for channel in channels if channel[0] == layer.name]
        living = int(alive[layer.name].sum())
        if not mine and living == layer.channels:
            continue
        go = living - limits.kept(layer.channels, living, living - len(mine))
        if go > len(mine):  # more zeros than a multiple allows: the smallest of those left go too
            sizes = groups.rows(layer).double().norm(dim=1)
            sizes[[k for _, k in mine]] = math.inf
            sizes[~alive[layer.name]] = math.inf
            mine += [(layer.name, int(k)) for k in torch.argsort(sizes, stable=True)[: go - len(mine)]]
        out += mine[:go]
    return out


def _give_back(chosen: list[Channel], channel: Channel, limits: Limits) -> list[Channel] | None:
    """`chosen` without that channel (round_to of its layer at once); None where it is not in it."""
    if channel not in chosen:
        return None
    mine = [c for c in chosen if c[0] == channel[0]][-limits.round_to :]
    return [c for c in chosen if c not in mine] if limits.round_to > 1 else [c for c in chosen if c != channel]


def _first(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """The smallest k in (low, high] for which the monotone predicate holds, or None."""
    if low >= high or not holds(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high
