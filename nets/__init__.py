"""Networks: channel groups, the exact proximal step while training, and physically smaller networks."""

from nets.groups import ChannelGroups, channel_groups
from nets.measure import measure
from nets.optimizer import Proximal
from nets.removal import remove_channels
from nets.resnet import resnet20, resnet32, resnet44, resnet56, resnet110
from nets.saving import load

__all__ = [
    "ChannelGroups",
    "Proximal",
    "channel_groups",
    "load",
    "measure",
    "remove_channels",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
]
