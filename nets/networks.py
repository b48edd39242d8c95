"""Every network that has a name: `ALL` is the list of the factories, `build` makes one of them for a data set."""

import inspect
from typing import Literal

import torch
from torch import nn

from nets.architectures.resnet_cifar_stem import resnet18_cifar, resnet50_cifar
from nets.architectures.torchvision_networks import (
    convnext_tiny,
    efficientnet_b0,
    mobilenet_v2,
    mobilenet_v3_large,
    mobilenet_v3_small,
    regnet_x_400mf,
    regnet_y_400mf,
    resnet18,
    resnet34,
    resnet50,
    vit_b_16,
)
from nets.architectures.vgg import vgg16_bn
from nets.resnet import resnet20, resnet32, resnet44, resnet56, resnet110
from perspective.errors import InputError

ALL = (
    *(resnet20, resnet32, resnet44, resnet56, resnet110),
    *(resnet18_cifar, resnet50_cifar, vgg16_bn),
    *(resnet18, resnet34, resnet50, mobilenet_v2, mobilenet_v3_small, mobilenet_v3_large, efficientnet_b0),
    *(regnet_y_400mf, regnet_x_400mf, convnext_tiny, vit_b_16),
)


def build(
    name: str,
    num_classes: int,
    in_channels: int,
    width: int | None = None,
    shortcut: Literal["A", "B"] | None = None,
    image_size: int | None = None,
) -> nn.Module:
    """The network of that name, freshly initialised by torch's seed, in torch's default training mode.

    width, shortcut: None for the network's own. image_size: pixels of a side of the (square) images, None where unknown; a
    network that is made for one image size is made for this one. InputError: an unknown name, a width or shortcut for a network
    that has no choice of it, images that are too small.
    """
    factory = next((f for f in ALL if f.__name__ == name), None)
    if factory is None:
        raise InputError(f"unknown net {name!r}; choose one of {', '.join(f.__name__ for f in ALL)}")
    takes = inspect.signature(factory).parameters
    asked = {key: value for key, value in (("width", width), ("shortcut", shortcut)) if value is not None}
    for key in asked:
        if key not in takes:
            others = ", ".join(f.__name__ for f in ALL if key in inspect.signature(f).parameters)
            raise InputError(f"{name} has no choice of {key}; leave --{key} out, or choose one of {others}")
    arguments = {"num_classes": num_classes, "in_channels": in_channels, **asked}
    if image_size is not None and "image_size" in takes:
        arguments["image_size"] = image_size
    if image_size is not None:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            _refuse_small_images(factory(**arguments), name, in_channels, image_size)
    return factory(**arguments)


def _refuse_small_images(shape: nn.Module, name: str, in_channels: int, image_size: int) -> None:
    """Run the network without numbers: on images that are too small, a layer of it has no pixel left."""
    try:
        with torch.no_grad():
            shape.eval()(torch.zeros(2, in_channels, image_size, image_size))
    except RuntimeError as error:
        raise InputError(
            f"{name} does not run on images of {image_size}x{image_size} pixels; choose larger images or another --net"
        ) from error
