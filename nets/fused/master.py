"""Float32 masters of low-precision weights: the optimizer and the prox work on them, and the weights are their roundings.

A step of 1e-4 of a bfloat16 weight is lost in its rounding; a master keeps it. It lives in the optimizer's state, as
"master" beside the momentum (both float32), so that state_dict carries it. A weight is zero where its master is. A weight
that somebody else wrote since the last step (a loaded model) and that is no longer its master's rounding gets a new master.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nets.structures.split import is_split
from perspective.errors import InputError

LOW = (torch.bfloat16, torch.float16)


@final
class Masters:
    """The masters of one optimizer's parameters."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.written: dict[nn.Parameter, tuple[int, int]] = {}  # (address, version) as the last step left them

    @contextmanager
    def taken(self) -> Iterator[dict[nn.Parameter, Tensor]]:
        """The masters by parameter, out of the state for a while: torch's optimizers take an empty state for a new one."""
        found = {p: self._master(p) for group in self.optimizer.param_groups for p in group["params"] if p.dtype in LOW}
        try:
            yield found
        finally:
            for parameter, master in found.items():
                self.optimizer.state[parameter]["master"] = master
                self.written[parameter] = (parameter.data_ptr(), parameter._version)

    @contextmanager
    def in_float32(self) -> Iterator[None]:
        """Parameters and gradients are float32 inside; afterwards the parameters are the masters' roundings."""
        with self.taken() as masters, swapped(masters):
            yield
        for parameter, master in masters.items():
            parameter.copy_(master)
            self.written[parameter] = (parameter.data_ptr(), parameter._version)

    def _master(self, parameter: nn.Parameter) -> Tensor:
        if is_split(parameter):
            raise InputError("master=True wants whole tensors; with fully_shard take its own mixed precision instead")
        master = self.optimizer.state[parameter].pop("master", None)
        known = self.written.get(parameter) == (parameter.data_ptr(), parameter._version)
        if master is not None and master.stride() != parameter.stride():
            master = torch.empty_like(parameter, dtype=torch.float32, memory_format=torch.preserve_format).copy_(master)
        if master is not None and (known or torch.equal(master.to(parameter.dtype), parameter)):
            return master
        return parameter.detach().to(torch.float32, memory_format=torch.preserve_format, copy=True)


@contextmanager
def swapped(twins: Mapping[nn.Parameter, Tensor]) -> Iterator[None]:
    """The parameters are their twins inside (gradients cast along); their own numbers are not touched."""
    own = {parameter: (parameter.data, parameter.grad) for parameter in twins}
    try:
        for parameter, twin in twins.items():
            gradient, parameter.grad = parameter.grad, None
            parameter.data = twin
            parameter.grad = None if gradient is None else gradient.to(twin.dtype)
        yield
    finally:
        for parameter, (content, gradient) in own.items():
            parameter.grad = None
            parameter.data = content
            parameter.grad = gradient
