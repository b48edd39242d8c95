"""SGD and AdamW in one pass with the prox: weights, gradients and state are read once, weights and state written once.

The arithmetic is torch's own, operation by operation in the weights' precision, and the state is kept where torch keeps it
(`momentum_buffer`; `step`, `exp_avg`, `exp_avg_sq`), so that state_dict is interchangeable with the unfused path.
"""

from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nets.fused.segments import Segments
from nets.fused.sweep import ADAMW, FIRST, GRADIENT, SECOND, SGD, WEIGHT, Update
from perspective.errors import InputError

NOT_TAKEN = {
    torch.optim.SGD: ("dampening", "maximize", "differentiable"),
    torch.optim.AdamW: ("amsgrad", "maximize", "differentiable"),
}


def refuse_unfusable(optimizer: Optimizer) -> None:
    """InputError where `optimizer`'s step is not one of those written here."""
    kind = type(optimizer)
    cure = "choose implementation='fused', which lets the optimizer step by itself and fuses the prox"
    if kind not in NOT_TAKEN:
        raise InputError(f"fused_step knows torch.optim.SGD and AdamW, not {kind.__name__}; {cure}")
    for group in optimizer.param_groups:
        for option in NOT_TAKEN[kind]:
            if group[option]:
                raise InputError(f"fused_step has no {kind.__name__} with {option}={group[option]}; {cure}")
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        raise InputError(f"fused_step would pass by the hooks of the wrapped optimizer's step; {cure}")


def prepare_update(optimizer: Optimizer, table: Segments) -> Update:
    """Advance the optimizer's state to the next step and say what the sweep does to each tensor.

    A tensor without a gradient is left to the prox alone, as torch leaves it.
    """
    refuse_unfusable(optimizer)
    kind = SGD if type(optimizer) is torch.optim.SGD else ADAMW
    first = table.tensors[0]
    real = np.float64 if first.dtype == torch.float64 else np.float32
    rules = np.zeros((len(table.tensors), 4 if kind == SGD else 7), dtype=real)
    memory = _Addresses(len(table.tensors))
    owner = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for number, parameter in enumerate(table.tensors):
        memory.put(WEIGHT, number, parameter)
        if parameter.grad is None:
            continue
        group = owner[id(parameter)]
        memory.put(GRADIENT, number, laid_out_as(parameter, parameter.grad))
        if kind == SGD:
            rules[number] = _sgd_rule(group)
            if group["momentum"]:
                state = optimizer.state[parameter]
                if (
                    state.get("momentum_buffer") is None
                ):  # zero: the first step then makes it the gradient, as torch does
                    state["momentum_buffer"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                memory.put(FIRST, number, kept(parameter, state, "momentum_buffer"))
        else:
            state = optimizer.state[parameter]
            rules[number] = _adamw_rule(group, _advance(state, parameter))
            memory.put(FIRST, number, kept(parameter, state, "exp_avg"))
            memory.put(SECOND, number, kept(parameter, state, "exp_avg_sq"))
    return Update(kind, rules, memory.table, tuple(memory.held))


def _sgd_rule(group: dict[str, Any]) -> tuple[float, ...]:
    return float(group["lr"]), group["weight_decay"], group["momentum"], float(group["nesterov"])


def _adamw_rule(group: dict[str, Any], step: float) -> tuple[float, ...]:
    rate, (one, two) = float(group["lr"]), (float(beta) for beta in group["betas"])
    decay = 1 - rate * group["weight_decay"]
    return decay, 1 - one, two, 1 - two, (1 - two**step) ** 0.5, group["eps"], rate / (1 - one**step)


def _advance(state: dict[str, Any], parameter: nn.Parameter) -> float:
    """Count the step; the state of the first one is made as torch makes it."""
    if not state:
        state["step"] = torch.tensor(
            0.0, dtype=torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
        )
        state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    state["step"] += 1
    return float(state["step"])


def kept(parameter: Tensor, state: dict[str, Any], name: str) -> Tensor:
    """The state's tensor, laid out in memory as the parameter is; one that is not is replaced by a copy that is."""
    state[name] = laid_out_as(parameter, state[name])
    return state[name]


def laid_out_as(parameter: Tensor, tensor: Tensor) -> Tensor:
    """The tensor with the parameter's places in memory, itself where it has them; InputError where it is of another kind."""
    if tensor.layout != torch.strided or tensor.device != parameter.device or tensor.dtype != parameter.dtype:
        raise InputError(
            f"fused_step needs dense gradients and state of the weights' own kind, not {tensor.layout}, {tensor.dtype} on "
            f"{tensor.device}; choose implementation='fused'"
        )
    if tensor.shape != parameter.shape:
        raise InputError(
            f"a gradient or state has shape {tuple(tensor.shape)}, its weights {tuple(parameter.shape)}; drop it"
        )
    if tensor.stride() == parameter.stride():
        return tensor
    return torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(tensor)


@final
class _Addresses:
    """The table of addresses, and the tensors they point into, which must live as long as the sweep."""

    def __init__(self, tensors: int) -> None:
        self.table = np.zeros((4, tensors), dtype=np.int64)
        self.held: list[Tensor] = []

    def put(self, row: int, number: int, tensor: Tensor) -> None:
        """Note where the tensor lies."""
        self.table[row, number] = tensor.data_ptr()
        self.held.append(tensor)
