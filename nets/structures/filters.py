"""The paper's groups: one convolution's filter and bias and, where batch normalisation follows, (gamma, beta).

Source: Cacciola, Frangioni, Li, Lodi (2023), no coupling over additions. Pairs of convolution and BatchNorm2d are found
by running the network once and following the tensors. Grouped and depthwise convolutions have groups like any other.
"""

from torch import Tensor, nn

from nets.flow.forward_once import forward_once
from nets.structures.slices import Layer, Span
from perspective.errors import InputError


def filter_groups(model: nn.Module, example_inputs: Tensor | tuple[Tensor, ...]) -> tuple[Layer, ...]:
    """One Layer for each Conv2d, in the order of their call. InputError where a convolution is called twice, shares a
    parameter, or has none of its own."""
    convolutions, followers = _follow(model, example_inputs)
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
        layers.append(Layer(name, bn_name, tuple(Span(p) for p in parameters), conv.out_channels, (name,)))
    return tuple(layers)


def _follow(
    model: nn.Module, example_inputs: Tensor | tuple[Tensor, ...]
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
    try:
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                handles.append(module.register_forward_hook(leave_conv))
            elif isinstance(module, nn.BatchNorm2d):
                handles.append(module.register_forward_pre_hook(enter_bn))
        forward_once(model, example_inputs)
    finally:
        for handle in handles:
            handle.remove()
    return convolutions, followers
