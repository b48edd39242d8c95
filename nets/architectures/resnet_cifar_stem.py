"""ResNet-18 and ResNet-50 for small images: the four stages of the ImageNet networks behind a 3x3 convolution of stride 1.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1; the stem (no stride, no max
pooling) is the one that is usual for 32x32 images. Tensor names are torchvision's: conv1, layer1.0.conv1, layer2.0.downsample.0,
fc. Shortcuts are 1x1 convolutions where the shape changes (option B), the only kind that these networks have.
"""

from typing import Literal, final

import torch
from torch import Tensor, nn

from nets.norm_relu import norm_relu
from perspective.errors import InputError

Block = Literal["basic", "bottleneck"]


@final
class CifarStemResNet(nn.Module):
    """Images (batch, in_channels, height, width) -> logits (batch, num_classes); `width` channels enter the first stage.

    `architecture` is what a saved file needs to build the same shape again.
    """

    def __init__(
        self, name: str, block: Block, blocks: tuple[int, ...], num_classes: int, in_channels: int, width: int
    ) -> None:
        super().__init__()
        for what, value in (("num_classes", num_classes), ("in_channels", in_channels), ("width", width)):
            if value < 1:
                raise InputError(f"{what} is {value}; it must be at least 1")
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        channels = width
        for stage, count in enumerate(blocks):
            layer, channels = _stage(block, channels, width << stage, count, 1 if stage == 0 else 2)
            self.add_module(f"layer{stage + 1}", layer)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        arguments = {"num_classes": num_classes, "in_channels": in_channels, "width": width}
        self.architecture = {"name": name, "arguments": arguments}

    def forward(self, x: Tensor) -> Tensor:
        x = norm_relu(self.bn1, self.conv1(x))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def resnet18_cifar(num_classes: int = 10, in_channels: int = 3, width: int = 64) -> CifarStemResNet:
    """ResNet-18 for small images, 11,173,962 parameters for ten classes."""
    return CifarStemResNet("resnet18_cifar", "basic", (2, 2, 2, 2), num_classes, in_channels, width)


def resnet50_cifar(num_classes: int = 10, in_channels: int = 3, width: int = 64) -> CifarStemResNet:
    """ResNet-50 for small images, 23,520,842 parameters for ten classes; the stride stands at the 3x3 convolutions."""
    return CifarStemResNet("resnet50_cifar", "bottleneck", (3, 4, 6, 3), num_classes, in_channels, width)


def _stage(block: Block, channels_in: int, planes: int, count: int, stride: int) -> tuple[nn.Sequential, int]:
    """`count` of torchvision's blocks, and how many channels leave them."""
    from torchvision.models.resnet import BasicBlock, Bottleneck

    kind = BasicBlock if block == "basic" else Bottleneck
    channels = planes * kind.expansion
    shortcut = None
    if stride != 1 or channels_in != channels:
        shortcut = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
    rest = (kind(channels, planes) for _ in range(count - 1))
    return nn.Sequential(kind(channels_in, planes, stride, shortcut), *rest), channels
