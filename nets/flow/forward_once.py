"""Run a network once, in evaluation mode and without gradients, and leave it as it was."""

from typing import Any

import torch
from torch import Tensor, nn

from nets.structures.split import split_again
from perspective.errors import InputError


def forward_once(model: nn.Module, example_inputs: Tensor | tuple[Tensor, ...]) -> Any:
    """The network's outputs. Modes are restored, running statistics do not move; InputError where the forward fails."""
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.no_grad():
            return model(*inputs)
    except RuntimeError as error:
        text = (str(error).splitlines() or ["no message"])[0]
        raise InputError(f"the network does not take these example inputs ({text}); give a batch it accepts") from error
    finally:
        for module, mode in modes.items():
            module.training = mode
        split_again(model)
