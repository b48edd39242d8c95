"""Reach a budget: zero further channels in the order of the method's scores until the physically smaller network fits.

No formula stands for the count: each candidate is a copy of the network with its channels zeroed, removed and
measured. Channels taken are nested along the order, so the count falls with their number and bisection is exact.
Every layer keeps at least KEEP of its channels: prices in proportion to what is saved would otherwise empty the
early layers.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from nets.groups import ChannelGroups
from nets.measure import measure
from nets.removal import remove_channels
from perspective.errors import InputError

KINDS = ("macs", "params", "channels")
KEEP = 0.15
CLOSE = 0.01  # a budget missed from below by more than this is worth a look at other last channels
LOOKS = 16

Channel = tuple[str, int]


@final
@dataclass(frozen=True)
class Budget:
    """Keep at most `share` of the dense network's `kind` ("macs", "params" or "channels")."""

    kind: str
    share: float


def parse_budget(text: str) -> Budget:
    """ "macs=0.5" -> Budget("macs", 0.5)."""
    kind, _, number = text.partition("=")
    try:
        share = float(number)
    except ValueError:
        share = math.nan
    if kind not in KINDS or not 0 < share < 1:
        raise InputError(f"--budget {text!r} is not KIND=SHARE with KIND one of {', '.join(KINDS)} and 0 < SHARE < 1")
    return Budget(kind, share)


def removal_order(groups: ChannelGroups, scores: Mapping[str, Tensor]) -> tuple[list[tuple[float, Channel]], int]:
    """(score, (layer, channel)) ascending, without the channels each layer must keep, and how many of them are zero
    now."""
    order = []
    for layer in groups.layers:
        kept = max(1, math.ceil(KEEP * layer.channels))
        ascending = torch.argsort(scores[layer.name], stable=True).tolist()
        order += [(float(scores[layer.name][k]), (layer.name, k)) for k in ascending[: layer.channels - kept]]
    order.sort()
    zero = {
        (layer.name, k) for layer in groups.layers for k, alive in enumerate(groups.alive(layer).tolist()) if not alive
    }
    return order, sum(channel in zero for _, channel in order)


def zero_channels(groups: ChannelGroups, channels: list[Channel]) -> None:
    """Set the groups of these channels to zero, in the network's own parameters."""
    for layer in groups.layers:
        chosen = [k for name, k in channels if name == layer.name]
        if chosen:
            rows = groups.rows(layer)
            rows[chosen] = 0
            groups.write(layer, rows)


def share_left(
    model: nn.Module, groups: ChannelGroups, example: Tensor, budget: Budget, dense: float, channels: list[Channel]
) -> float:
    """The share of `dense` that is left when `channels` are zeroed and all zero channels removed; `model` is not
    changed."""
    trial, trial_groups = copy.deepcopy((model, groups))
    zero_channels(trial_groups, channels)
    smaller, _ = remove_channels(trial, example)
    return getattr(measure(smaller, example), budget.kind) / dense


def check_reachable(model: nn.Module, groups: ChannelGroups, example: Tensor, budget: Budget) -> None:
    """InputError with the reachable range where even the fewest channels allowed cost more than the budget."""
    dense = getattr(measure(model, example), budget.kind)
    scores = {layer.name: torch.arange(1, layer.channels + 1, dtype=torch.float64) for layer in groups.layers}
    order, _ = removal_order(groups, scores)
    least = share_left(model, groups, example, budget, dense, [channel for _, channel in order])
    if least > budget.share:
        raise InputError(
            f"--budget {budget.kind}={budget.share:g} cannot be reached: every layer keeps at least {KEEP:.0%} of its "
            f"channels, so ask for between {math.ceil(1000 * least) / 1000:g} and 1"
        )


def channels_for_budget(
    model: nn.Module, groups: ChannelGroups, example: Tensor, budget: Budget, dense: float, scores: Mapping[str, Tensor]
) -> tuple[list[Channel], float]:
    """The channels to zero so that at most the budget is left, and the score of the last one (0 where none is needed).

    model, groups, example: network, its groups, a normalised batch. dense: the dense network's count. Channels that are
    zero already are not listed. InputError where the order ends above the budget.
    """
    order, zero = removal_order(groups, scores)

    def left(count: int, extra: int | None = None) -> float:
        taken = [channel for _, channel in order[:count]] + ([] if extra is None else [order[extra][1]])
        return share_left(model, groups, example, budget, dense, taken)

    if left(0) <= budget.share:
        return [], 0.0
    count = _first(lambda k: left(k) <= budget.share, zero, len(order))
    if count is None:
        raise InputError(
            f"--budget {budget.kind}={budget.share:g} cannot be reached from the present network; ask for more"
        )
    chosen, best = count - 1, left(count)
    if budget.share - best > CLOSE * budget.share:
        # the last channel overshoots: a cheaper one behind it may fit better
        for extra in range(count, min(count + LOOKS, len(order))):
            share = left(count - 1, extra)
            if best < share <= budget.share:
                chosen, best = extra, share
    taken = [channel for _, channel in order[zero : count - 1]] + [order[chosen][1]]
    return taken, order[count - 1][0]


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
