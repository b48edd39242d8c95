"""The weights that die with one output channel: its filter and, where batch normalisation follows, (gamma, beta).

Source: the groups of Cacciola, Frangioni, Li, Lodi (2023), no coupling over additions; the classifier is left alone.
Pairs of convolution and BatchNorm2d are found by running the network once and following the tensors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from nets.split_groups import read_whole, split_again, write_whole
from perspective.errors import InputError


@final
@dataclass(frozen=True)
class Layer:
    """One convolution's output channels.

    name        the convolution's name in the network
    bn          name of the BatchNorm2d that follows it, or None
    parameters  the network's own parameters; dimension 0 of each is the channel
    channels    number of groups
    n           numbers in one group
    """

    name: str
    bn: str | None
    parameters: tuple[nn.Parameter, ...]
    channels: int
    n: int

    @property
    def conv(self) -> str:
        """The convolution's name (the layer's name)."""
        return self.name


@final
@dataclass(frozen=True)
class ChannelGroups:
    """All groups of one network. `total` is the number of grouped numbers, N = sum of n_g over all groups.

    Where the network is split over processes (nets/split_groups.py), groups are read and written whole, by all together.
    """

    layers: tuple[Layer, ...]

    @property
    def total(self) -> int:
        return sum(layer.channels * layer.n for layer in self.layers)

    def __getitem__(self, name: str) -> Layer:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise InputError(f"no layer {name!r}; the layers are {', '.join(layer.name for layer in self.layers)}")

    def rows(self, layer: Layer) -> Tensor:
        """A copy of the layer's groups, one a row: (channels, n)."""
        return torch.cat([read_whole(p).reshape(layer.channels, -1) for p in layer.parameters], dim=1)

    @torch.no_grad()
    def write(self, layer: Layer, rows: Tensor) -> None:
        """Put (channels, n) rows back into the network's parameters."""
        if rows.shape != (layer.channels, layer.n):
            raise InputError(f"{layer.name} has rows of shape {(layer.channels, layer.n)}, not {tuple(rows.shape)}")
        parts = rows.split([p.numel() // layer.channels for p in layer.parameters], dim=1)
        for parameter, part in zip(layer.parameters, parts, strict=True):
            write_whole(parameter, part)

    def alive(self, layer: Layer) -> Tensor:
        """(channels,) boolean: has the group any number that is not zero?"""
        alive = torch.zeros(layer.channels, dtype=torch.bool, device=layer.parameters[0].device)
        for parameter in layer.parameters:
            alive |= (read_whole(parameter).reshape(layer.channels, -1) != 0).any(dim=1)
        return alive

    def surviving(self) -> dict[str, int]:
        """Per layer, the number of channels that are not wholly zero."""
        return {layer.name: int(self.alive(layer).sum()) for layer in self.layers}

    def snapshot(self) -> Mapping[str, Tensor]:
        """A copy of all rows by layer name."""
        return {layer.name: self.rows(layer) for layer in self.layers}


def channel_groups(model: nn.Module, example_inputs: Tensor, coupled: bool = False) -> ChannelGroups:
    """The groups of `model`; `example_inputs` is any batch it accepts. The network is not changed.

    Raises InputError for coupled=True (groups over additions), for a network without convolutions, and where two
    layers share one parameter.
    """
    if coupled:
        raise InputError("coupled groups (over additions) come with the next version; use coupled=False")
    convolutions, followers = _follow(model, example_inputs)
    split_again(model)
    layers: list[Layer] = []
    seen: set[int] = set()
    for name, conv in convolutions.items():
        bn_name, bn = followers.get(name, (None, None))
        candidates = [conv.weight, conv.bias] + ([] if bn is None else [bn.weight, bn.bias])
        parameters = tuple(p for p in candidates if isinstance(p, nn.Parameter))
        if not parameters:
            raise InputError(
                f"{name} has no parameter of its own (a parametrisation?); remove the parametrisation first"
            )
        if any(id(p) in seen for p in parameters):
            raise InputError(f"{name} shares a parameter with another layer; shared layers cannot be pruned by channel")
        seen.update(id(p) for p in parameters)
        channels = conv.out_channels
        layers.append(Layer(name, bn_name, parameters, channels, sum(p.numel() for p in parameters) // channels))
    if not layers:
        raise InputError("the network has no Conv2d that its forward pass calls; there is no channel to prune")
    return ChannelGroups(tuple(layers))


def _follow(
    model: nn.Module, example_inputs: Tensor
) -> tuple[dict[str, nn.Conv2d], dict[str, tuple[str, nn.BatchNorm2d]]]:
    """Convolutions in the order of their call, and for each the BatchNorm2d that reads the very tensor it wrote."""
    outputs: dict[int, tuple[str, Tensor]] = {}  # the tensor is kept alive so that its id stays unique
    convolutions: dict[str, nn.Conv2d] = {}
    followers: dict[str, tuple[str, nn.BatchNorm2d]] = {}
    names = {module: name for name, module in model.named_modules()}

    def leave_conv(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        if names[module] in convolutions:
            raise InputError(
                f"{names[module]} is called twice in one forward pass; such layers cannot be pruned by channel"
            )
        convolutions[names[module]] = module
        outputs[id(output)] = (names[module], output)

    def enter_bn(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in outputs:
            followers[outputs[id(inputs[0])][0]] = (names[module], module)

    handles = []
    modes = {module: module.training for module in model.modules()}
    try:
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                handles.append(module.register_forward_hook(leave_conv))
            elif isinstance(module, nn.BatchNorm2d):
                handles.append(module.register_forward_pre_hook(enter_bn))
        model.eval()  # running statistics must not move
        with torch.no_grad():
            model(example_inputs)
    except RuntimeError as error:
        text = str(error).splitlines()[0]
        raise InputError(f"the network does not take these example inputs ({text}); give a batch it accepts") from error
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return convolutions, followers
