"""One tensor of a traced network: how it is made, and where in it the channels lie."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import final

from torch import fx


@final
class Kind(Enum):
    """The part an operation plays for channels."""

    SOURCE = auto()  # an input of the network, or a parameter read directly
    PARAMETER = auto()  # a parameter with one number for each channel, read by one addition or product
    WRITE = auto()  # ungrouped Conv2d, or Linear
    GROUPED = auto()  # Conv2d in groups
    DEPTHWISE = auto()  # Conv2d with as many groups as inputs and outputs
    NORM = auto()  # BatchNorm
    MAP = auto()  # one function of each number: ReLU, sigmoid, dropout in evaluation mode, x / 6
    POOL = auto()  # acts inside each channel: pooling, mean over positions, flattening, permuting
    ADD = auto()
    MUL = auto()  # also with broadcasting: squeeze and excitation, layer scale
    CAT = auto()  # concatenation along the channels
    ROUTE = auto()  # every output channel is one input channel or a constant: PadShortcut, Scatter
    CONSTANT = auto()  # what an earlier removal left of a layer
    OPAQUE = auto()


SAME_CHANNELS = (Kind.MAP, Kind.POOL, Kind.ADD, Kind.MUL, Kind.NORM, Kind.DEPTHWISE)  # result and inputs share a space


@final
@dataclass(frozen=True)
class Op:
    """One tensor of the network and how it is made.

    inputs    the tensors it reads, by name; in the order of the arguments where there are several
    module    path of the module that makes it, if one does
    channels  how many; they lie along dimension `axis`, `features` numbers of it for each channel (more than 1 only behind a
              flattening)
    shape     of the whole tensor
    """

    name: str
    kind: Kind
    inputs: tuple[str, ...]
    node: fx.Node
    module: str | None
    channels: int
    features: int
    axis: int
    shape: tuple[int, ...]


@final
@dataclass(frozen=True)
class Reading:
    """What an operation is: its kind, the axis of the channels in its result, and the axis along which it reads its inputs
    (None: whatever theirs is)."""

    kind: Kind
    axis: int
    reads: int | None = None


def opaque(shape: tuple[int, ...]) -> Reading:
    """Not understood. The axis is only a guess: a reader that sees the channels elsewhere finds them all kept."""
    return Reading(Kind.OPAQUE, 1 if len(shape) in (2, 4) else max(len(shape) - 1, 0))
