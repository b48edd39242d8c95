"""VGG-16 with batch normalisation for small images: thirteen 3x3 convolutions, five poolings, one linear classifier.

Source: Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, configuration D; one
linear layer in the place of three is what is usual on CIFAR. The convolutions have no bias: the normalisation would take
it off again. The layers of `features` are numbered as in torchvision's vgg16_bn, whatever the image size.
"""

from typing import final

import torch
from torch import Tensor, nn

from perspective.errors import InputError

STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # (channels over width, convolutions) before each pooling


@final
class VGG(nn.Module):
    """Images (batch, in_channels, height, width) -> logits (batch, num_classes); `width` channels leave the first stage.

    image_size  height and width of the images it is made for. Each pooling halves them; the poolings that would go below one
                pixel are left out (8x8 images: the last two). What is left at the end is averaged, so larger images pass too.
    """

    def __init__(self, num_classes: int, in_channels: int, width: int, image_size: int) -> None:
        super().__init__()
        arguments = {"num_classes": num_classes, "in_channels": in_channels, "width": width, "image_size": image_size}
        for what, value in arguments.items():
            if value < 1:
                raise InputError(f"{what} is {value}; it must be at least 1")
        layers: list[nn.Module] = []
        channels, pixels = in_channels, image_size
        for share, count in STAGES:
            for _ in range(count):
                layers += [nn.Conv2d(channels, share * width, 3, 1, 1, bias=False), nn.BatchNorm2d(share * width)]
                layers.append(nn.ReLU(inplace=True))
                channels = share * width
            layers.append(nn.MaxPool2d(2, 2) if pixels > 1 else nn.Identity())
            pixels //= 2
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.architecture = {"name": "vgg16_bn", "arguments": arguments}

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def vgg16_bn(num_classes: int = 10, in_channels: int = 3, width: int = 64, image_size: int = 32) -> VGG:
    """VGG-16-BN for small images, 14,724,042 parameters for ten classes."""
    return VGG(num_classes, in_channels, width, image_size)
