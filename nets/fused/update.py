"""SGD and AdamW in one pass with the prox: weights, gradients and state are read once, weights and state written once.

The arithmetic is torch's own, operation by operation in the weights' precision, and the state is kept where torch keeps it
(`momentum_buffer`; `step`, `exp_avg`, `exp_avg_sq`), so that state_dict is interchangeable with the unfused path.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nets.fused.segments import Layout, Segments
from nets.fused.sweep import ADAMW, FIRST, GRADIENT, SGD, WEIGHT, Update
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
    real = np.float64 if table.tensors[0].dtype == torch.float64 else np.float32
    rules = np.zeros((len(table.tensors), 4 if kind == SGD else 7), dtype=real)
    memory: list[list[int]] = [[0] * len(table.tensors) for _ in range(4)]  # rows: WEIGHT, GRADIENT, FIRST, SECOND
    held: list[Tensor] = []
    number_of = table.number_of
    for group in optimizer.param_groups:
        rule, momentum = (_sgd_rule(group), group["momentum"]) if kind == SGD else (None, 0)
        names = ("exp_avg", "exp_avg_sq") if kind == ADAMW else ("momentum_buffer",) if momentum else ()
        for parameter in group["params"]:
            number, gradient = number_of[id(parameter)], parameter.grad
            memory[WEIGHT][number] = parameter.data_ptr()
            if gradient is None:
                continue
            layout = table.layouts[number]
            if not _lies(gradient, layout):
                gradient = _like(parameter, gradient)
                held.append(gradient)
            memory[GRADIENT][number] = gradient.data_ptr()
            state = optimizer.state[parameter] if names else {}
            if kind == ADAMW:
                rule = _adamw_rule(group, _advance(state, parameter))
            elif names and state.get(names[0]) is None:  # zero: the first step makes it the gradient, as torch does
                state[names[0]] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            rules[number] = rule
            for row, name in enumerate(names, start=FIRST):
                if not _lies(state[name], layout):  # replaced by a copy that lies in memory as the parameter does
                    state[name] = _like(parameter, state[name])
                memory[row][number] = state[name].data_ptr()
    return Update(kind, rules, np.array(memory, dtype=np.int64), tuple(held))


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


def _lies(tensor: Tensor, layout: Layout) -> bool:
    """Does the tensor lie in memory as its parameter does?"""
    return tensor.layout is torch.strided and (tensor.shape, tensor.stride(), tensor.dtype, tensor.device) == layout


def kept(parameter: Tensor, state: dict[str, Any], name: str) -> Tensor:
    """The state's tensor, laid out in memory as the parameter is; one that is not is replaced by a copy that is."""
    state[name] = laid_out_as(parameter, state[name])
    return state[name]


def laid_out_as(parameter: Tensor, tensor: Tensor) -> Tensor:
    """The tensor itself where it lies in memory as the parameter does, else a copy that does."""
    layout = (parameter.shape, parameter.stride(), parameter.dtype, parameter.device)
    return tensor if _lies(tensor, layout) else _like(parameter, tensor)


def _like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """A copy that lies in memory as the parameter does; InputError where the tensor is of another kind."""
    if (tensor.layout, tensor.device, tensor.dtype) != (torch.strided, parameter.device, parameter.dtype):
        raise InputError(
            f"fused_step needs dense gradients and state of the weights' own kind, not {tensor.layout}, {tensor.dtype} on "
            f"{tensor.device}; choose implementation='fused'"
        )
    if tensor.shape != parameter.shape:
        raise InputError(
            f"a gradient or state has shape {tuple(tensor.shape)}, its weights {tuple(parameter.shape)}; drop it"
        )
    return torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(tensor)
