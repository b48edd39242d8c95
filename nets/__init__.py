"""Networks: channel groups, the exact proximal step while training, and physically smaller networks."""

from nets.architectures.resnet_cifar_stem import resnet18_cifar, resnet50_cifar
from nets.architectures.vgg import vgg16_bn
from nets.budget import reach_budget
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
    "reach_budget",
    "remove_channels",
    "resnet18_cifar",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet50_cifar",
    "resnet56",
    "resnet110",
    "vgg16_bn",
]
