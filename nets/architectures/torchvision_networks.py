"""torchvision's networks under torchvision's names, with random weights; tensor names are those of its published files.

They take colour images. For grey ones (in_channels 1) the first convolution is replaced by the sum of its three colour
filters, which answers as the colour network does on the grey image given three times.
"""

from functools import partial
from typing import Any

import torch
from torch import nn

from perspective.errors import InputError

PATCH = 16  # pixels, of vit_b_16


def resnet18(num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-18; He and others, CVPR 2016."""
    from torchvision import models

    return _named("resnet18", models.resnet18(num_classes=num_classes), num_classes, in_channels)


def resnet34(num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-34; He and others, CVPR 2016."""
    from torchvision import models

    return _named("resnet34", models.resnet34(num_classes=num_classes), num_classes, in_channels)


def resnet50(num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ResNet-50 with the stride at the 3x3 convolutions; He and others, CVPR 2016."""
    from torchvision import models

    return _named("resnet50", models.resnet50(num_classes=num_classes), num_classes, in_channels)


def mobilenet_v2(num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """MobileNetV2; Sandler and others, CVPR 2018."""
    from torchvision import models

    return _named("mobilenet_v2", models.mobilenet_v2(num_classes=num_classes), num_classes, in_channels)


def mobilenet_v3_small(num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """MobileNetV3, small; Howard and others, ICCV 2019."""
    from torchvision import models

    return _named("mobilenet_v3_small", models.mobilenet_v3_small(num_classes=num_classes), num_classes, in_channels)


def mobilenet_v3_large(num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """MobileNetV3, large; Howard and others, ICCV 2019."""
    from torchvision import models

    return _named("mobilenet_v3_large", models.mobilenet_v3_large(num_classes=num_classes), num_classes, in_channels)


def efficientnet_b0(num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """EfficientNet-B0; Tan, Le, ICML 2019."""
    from torchvision import models

    return _named("efficientnet_b0", models.efficientnet_b0(num_classes=num_classes), num_classes, in_channels)


def regnet_y_400mf(num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """RegNetY-400MF; Radosavovic and others, CVPR 2020."""
    shape = {"depth": 16, "w_0": 48, "w_a": 27.89, "w_m": 2.09, "group_width": 8, "se_ratio": 0.25}
    return _named("regnet_y_400mf", _regnet(shape, num_classes), num_classes, in_channels)


def regnet_x_400mf(num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """RegNetX-400MF; Radosavovic and others, CVPR 2020."""
    shape = {"depth": 22, "w_0": 24, "w_a": 24.48, "w_m": 2.54, "group_width": 16}
    return _named("regnet_x_400mf", _regnet(shape, num_classes), num_classes, in_channels)


def convnext_tiny(num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """ConvNeXt-T; Liu and others, CVPR 2022."""
    from torchvision import models

    return _named("convnext_tiny", models.convnext_tiny(num_classes=num_classes), num_classes, in_channels)


def vit_b_16(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> nn.Module:
    """ViT-B/16; Dosovitskiy and others, ICLR 2021. Its position embedding fits one image size, a multiple of 16 pixels."""
    from torchvision import models

    if image_size < PATCH or image_size % PATCH:
        raise InputError(
            f"vit_b_16 cuts images into patches of {PATCH}x{PATCH} pixels, and image_size {image_size} is no multiple "
            "of that; choose another image size or another --net"
        )
    model = models.vit_b_16(num_classes=num_classes, image_size=image_size)
    return _named("vit_b_16", model, num_classes, in_channels, image_size=image_size)


def _regnet(shape: dict[str, Any], num_classes: int) -> nn.Module:
    """As torchvision's factories build it; but those compute the widths with tensors, which have no values on "meta"."""
    from torchvision.models.regnet import BlockParams, RegNet

    with torch.device("cpu"):
        parameters = BlockParams.from_init_params(**shape)
    return RegNet(parameters, num_classes, norm_layer=partial(nn.BatchNorm2d, eps=1e-5, momentum=0.1))


def _named(name: str, model: nn.Module, num_classes: int, in_channels: int, **more: int) -> nn.Module:
    """The model with its `architecture`, and with a first convolution for `in_channels`."""
    if in_channels not in (1, 3):
        raise InputError(
            f"{name} takes images of 3 channels (colour) or 1 (grey), not {in_channels}; choose another --net"
        )
    if in_channels == 1:
        path, colour = next((p, m) for p, m in model.named_modules() if isinstance(m, nn.Conv2d))
        assert isinstance(colour, nn.Conv2d)
        grey = nn.utils.skip_init(
            *(nn.Conv2d, 1, colour.out_channels, colour.kernel_size, colour.stride, colour.padding),
            bias=colour.bias is not None,
            device=colour.weight.device,
        )
        grey.weight = nn.Parameter(colour.weight.detach().sum(1, keepdim=True))
        grey.bias = colour.bias
        model.set_submodule(path, grey)
    model.architecture = {
        "name": name,
        "arguments": {"num_classes": num_classes, "in_channels": in_channels, **more},
    }
    return model
