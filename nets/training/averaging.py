"""The exponential moving average of a network's weights, for phases in which no exact zeros are being made.

(An average of a channel that was alive and is zero now is not zero, so the regularised phase takes none.)
"""

from typing import final

import torch
from torch import Tensor, nn


@final
class Average:
    """average <- decay * average + (1 - decay) * weights after every step; buffers (batch normalisation) likewise, counters
    are copied. Starts at the network's present weights."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """One step's weights enter."""
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                self.tensors[name].lerp_(tensor, 1 - self.decay)
            else:
                self.tensors[name].copy_(tensor)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue from the average of a checkpoint."""
        for name, tensor in tensors.items():
            self.tensors[name].copy_(tensor)

    def write(self, model: nn.Module) -> None:
        """Put the average into the network."""
        model.load_state_dict(self.tensors)
