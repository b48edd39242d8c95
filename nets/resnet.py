"""CIFAR ResNets of depth 6n + 2: conv1, bn1, three stages of n basic blocks, global average pooling, linear.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2. Shortcut "A"
subsamples and pads with zero channels (no parameters), "B" is a 1x1 convolution with batch normalisation.
"""

from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.norm_relu import norm_relu
from perspective.errors import InputError

Shortcut = Literal["A", "B"]


@final
class PadShortcut(nn.Module):
    """Option-A shortcut: every second row and column, and zero channels added before and after.

    (batch, channels, height, width) -> (batch, before + channels + after, ceil(height / 2), ceil(width / 2))
    """

    def __init__(self, before: int, after: int, stride: int = 2) -> None:
        super().__init__()
        self.before, self.after, self.stride = before, after, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        return f"before={self.before}, after={self.after}, stride={self.stride}"


@final
class BasicBlock(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))"""

    def __init__(self, channels_in: int, channels: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(channels_in, channels, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        y = norm_relu(self.bn1, self.conv1(x))
        return norm_relu(self.bn2, self.conv2(y), self.shortcut(x))


@final
class ResNet(nn.Module):
    """The network; images (batch, in_channels, height, width) -> logits (batch, num_classes).

    `architecture` (a plain dict: factory name and arguments) is what a saved file needs to build the same shape again.
    """

    def __init__(self, depth: int, num_classes: int, in_channels: int, width: int, shortcut: Shortcut) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise InputError(f"a CIFAR ResNet has depth 6n + 2 (20, 32, 44, 56, 110), not {depth}")
        if shortcut not in ("A", "B"):
            raise InputError(f"unknown shortcut {shortcut!r}; choose A (subsample and pad) or B (1x1 convolution)")
        for name, value in (("num_classes", num_classes), ("in_channels", in_channels), ("width", width)):
            if value < 1:
                raise InputError(f"{name} is {value}; it must be at least 1")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks, 1, shortcut)
        self.layer2 = _stage(width, 2 * width, blocks, 2, shortcut)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2, shortcut)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(4 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        self.architecture = {
            "name": f"resnet{depth}",
            "arguments": {
                "num_classes": num_classes,
                "in_channels": in_channels,
                "width": width,
                "shortcut": shortcut,
            },
        }

    def forward(self, x: Tensor) -> Tensor:
        x = norm_relu(self.bn1, self.conv1(x))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(torch.flatten(self.pool(x), 1))


def resnet20(num_classes: int = 10, in_channels: int = 3, width: int = 16, shortcut: Shortcut = "A") -> ResNet:
    """ResNet-20, 269,722 parameters as in the paper's CIFAR-10 setting (option A)."""
    return ResNet(20, num_classes, in_channels, width, shortcut)


def resnet32(num_classes: int = 10, in_channels: int = 3, width: int = 16, shortcut: Shortcut = "A") -> ResNet:
    """ResNet-32 for CIFAR."""
    return ResNet(32, num_classes, in_channels, width, shortcut)


def resnet44(num_classes: int = 10, in_channels: int = 3, width: int = 16, shortcut: Shortcut = "A") -> ResNet:
    """ResNet-44 for CIFAR."""
    return ResNet(44, num_classes, in_channels, width, shortcut)


def resnet56(num_classes: int = 10, in_channels: int = 3, width: int = 16, shortcut: Shortcut = "A") -> ResNet:
    """ResNet-56, 853,018 parameters (option A)."""
    return ResNet(56, num_classes, in_channels, width, shortcut)


def resnet110(num_classes: int = 10, in_channels: int = 3, width: int = 16, shortcut: Shortcut = "A") -> ResNet:
    """ResNet-110 for CIFAR."""
    return ResNet(110, num_classes, in_channels, width, shortcut)


def _stage(channels_in: int, channels: int, blocks: int, stride: int, shortcut: Shortcut) -> nn.Sequential:
    first = BasicBlock(channels_in, channels, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1, shortcut) for _ in range(blocks - 1)))


def _shortcut(channels_in: int, channels: int, stride: int, shortcut: Shortcut) -> nn.Module:
    if stride == 1 and channels_in == channels:
        return nn.Identity()
    if shortcut == "A":
        before = (channels - channels_in) // 2
        return PadShortcut(before, channels - channels_in - before, stride)
    return nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
