"""The size of a network: multiply-accumulates for one input, parameters, convolution channels."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from perspective.errors import InputError


@final
@dataclass(frozen=True)
class Measurement:
    """macs: multiply-accumulates of convolutions and matrix products for one input; params: numbers that are learned;
    channels: output channels of all convolutions together; volume: numbers that the convolutions write for one input."""

    macs: int
    params: int
    channels: int
    volume: int


def measure(model: nn.Module, example_inputs: Tensor | tuple[Tensor, ...]) -> Measurement:
    """Count by running `model` once in evaluation mode; it is left as it was, mode included.

    InputError if the network does not run on the example inputs or the batch is empty.
    """
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    if not inputs or not inputs[0].dim() or not len(inputs[0]):
        raise InputError("the example inputs are empty; pass a batch of at least one input")
    modes = [(module, module.training) for module in model.modules()]
    written: list[int] = []
    handles = [
        module.register_forward_hook(lambda _, __, output: written.append(output.numel()))
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    ]
    counter, fast = FlopCounterMode(display=False), torch.backends.mha.get_fastpath_enabled()
    try:
        model.eval()
        torch.backends.mha.set_fastpath_enabled(False)  # one opaque operation, whose products nobody counts
        with torch.no_grad(), counter:
            model(*inputs)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"the network does not run on the example inputs ({reason}); pass a fitting batch") from error
    finally:
        for handle in handles:
            handle.remove()
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, training in modes:
            module.training = training
    return Measurement(
        macs=counter.get_total_flops() // 2 // len(inputs[0]),  # two flops are one multiply-accumulate
        params=sum(p.numel() for p in model.parameters()),
        channels=sum(m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)),
        volume=sum(written) // len(inputs[0]),
    )
