"""A convolution in groups keeps as many inputs and as many outputs in every group that is left: which ones?"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

NOTHING, ONE = -1, -2  # places of a group that read no channel: the constants 0 and 1


@final
@dataclass(frozen=True)
class Grouping:
    """groups: how many are left; sources: (groups x inputs of one,) the input channel, NOTHING or ONE; rows: (groups x outputs
    of one,) the output channels, ascending, some of them there only to fill their group."""

    groups: int
    sources: Tensor
    rows: Tensor

    @property
    def inputs(self) -> int:
        return len(self.sources)

    @property
    def outputs(self) -> int:
        return len(self.rows)


def plan_groups(reads: Tensor, groups: int, rows: Tensor, kept: Tensor, shifted: Tensor) -> Grouping:
    """The smallest grouping that computes the outputs `rows` from the input channels `kept`.

    reads: (outputs, channels) boolean, where the weight is not zero; rows, kept: ascending indices, rows not empty. A group of
    which no row is left disappears; the others are filled up to the fullest. shifted: (rows,) boolean, rows that also read
    constants which are no bias: their group gets a place ONE, through which any of them can be had.
    """
    outputs, inputs = reads.shape[0] // groups, reads.shape[1] // groups
    mine = {g: rows[rows // outputs == g] for g in (rows // outputs).unique().tolist()}
    ones = {g: int(shifted[rows // outputs == g].any()) for g in mine}
    columns = {g: kept[kept // inputs == g] for g in mine}
    read = {g: columns[g][reads[mine[g]][:, columns[g]].any(0)] for g in mine}
    tall, wide = max(len(mine[g]) for g in mine), max(1, *(len(read[g]) + ones[g] for g in mine))
    return Grouping(
        len(mine),
        torch.cat([_blank(_fill(read[g], columns[g], wide - ones[g]), ones[g], wide) for g in mine]),
        torch.cat([_fill(mine[g], torch.arange(g * outputs, (g + 1) * outputs), tall) for g in mine]),
    )


def _fill(chosen: Tensor, candidates: Tensor, count: int) -> Tensor:
    """`chosen` and the first of the other candidates, `count` together where there are so many; ascending."""
    others = candidates[~torch.isin(candidates, chosen)]
    return torch.cat([chosen, others[: count - len(chosen)]]).sort().values


def _blank(chosen: Tensor, ones: int, count: int) -> Tensor:
    empty = chosen.new_full((count - len(chosen) - ones,), NOTHING)
    return torch.cat([chosen, chosen.new_full((ones,), ONE), empty])
