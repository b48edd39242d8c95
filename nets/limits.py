"""What a budget may not touch: floors, multiples, layers that stay whole."""

import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from nets.groups import ChannelGroups
from perspective.errors import InputError


@final
@dataclass(frozen=True)
class Limits:
    """What a budget may not touch.

    floor     share of its channels that every layer keeps at least (prices in proportion to what is saved would otherwise
              empty the early layers)
    round_to  a layer that loses channels keeps a multiple of it (what kernels like; at least one multiple)
    excluded  patterns (`layer1.*`, `conv1`) of layers that lose nothing
    """

    floor: float = 0.15
    round_to: int = 1
    excluded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.floor < 1:
            raise InputError(f"--floor is {self.floor:g}; it must be at least 0 and less than 1")
        if self.round_to < 1:
            raise InputError(f"--round-to is {self.round_to}; it must be at least 1")

    def least(self, channels: int) -> int:
        """The fewest channels that a layer of `channels` may keep."""
        kept = max(1, math.ceil(self.floor * channels))
        return min(channels, self.round_to * math.ceil(kept / self.round_to))

    def kept(self, channels: int, alive: int, wanted: int) -> int:
        """How many channels the layer keeps where the order wants `wanted`: a multiple of round_to, upwards if the channels
        that are not zero (`alive`) suffice, else downwards."""
        up = min(channels, self.round_to * math.ceil(wanted / self.round_to))
        if up <= alive:
            return up
        return alive // self.round_to * self.round_to or alive


def parse_patterns(text: str | None) -> tuple[str, ...]:
    """ "conv1, layer1.*" -> its patterns; none of None."""
    return () if text is None else tuple(pattern.strip() for pattern in text.split(",") if pattern.strip())


def is_excluded(name: str, patterns: Sequence[str]) -> bool:
    """Does a pattern fit the layer's name?"""
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def select(groups: ChannelGroups, limits: Limits) -> ChannelGroups:
    """The groups without the excluded layers; InputError for a pattern that fits no layer, or where nothing is left."""
    names = [layer.name for layer in groups.layers]
    for pattern in limits.excluded:
        if not fnmatch.filter(names, pattern):
            raise InputError(f"--exclude {pattern} fits no layer; the layers are {', '.join(names)}")
    left = tuple(x for x in groups.layers if not is_excluded(x.name, limits.excluded))
    if not left:
        raise InputError("--exclude leaves no layer to prune; exclude fewer")
    return groups if len(left) == len(names) else ChannelGroups(left, groups.skipped)
