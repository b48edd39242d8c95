"""SGD and AdamW in the kernel's one pass: where weights, gradients and state lie, and eight numbers for each tensor.

    SGD    decay, momentum, nesterov
    AdamW  decay, 1 - beta1, beta2, 1 - beta2, eps, log beta1, log beta2

State is kept where torch keeps it. AdamW's step counts stay where they are: on the host as torch makes them, or, with
capturable=True or fused=True, on the device, where a captured CUDA graph counts on. The learning rate is read on the device.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nets.fused.segments import Segments
from nets.fused.sweep import ADAMW, SGD
from nets.fused.triton_sweep import COPY, COUNT, FIRST, GRADIENT, SECOND, WEIGHT, DeviceUpdate, device_table
from nets.fused.update import kept, laid_out_as, refuse_unfusable
from perspective.errors import InputError


def prepare_device_update(
    optimizer: Optimizer, table: Segments, masters: Mapping[nn.Parameter, Tensor] | None = None
) -> DeviceUpdate:
    """Advance the optimizer's state to the next step and say what the kernel does to each tensor.

    masters  float32 twins of low-precision parameters: they are updated, and the parameter becomes their rounding
    InputError for low-precision parameters without a master.
    """
    refuse_unfusable(optimizer)
    masters = masters or {}
    kind = SGD if type(optimizer) is torch.optim.SGD else ADAMW
    addresses = np.zeros((6, len(table.tensors)), dtype=np.int64)
    rules = np.zeros((len(table.tensors), 8))
    owner = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    weights: list[Tensor] = []
    copies: dict[int, Tensor] = {}
    counts: list[tuple[int, Tensor]] = []
    for number, parameter in enumerate(table.tensors):
        weight = masters.get(parameter, parameter)
        weights.append(weight)
        addresses[WEIGHT, number] = weight.data_ptr()
        if weight is not parameter:
            copies[number] = parameter
            addresses[COPY, number] = parameter.data_ptr()
        elif weight.dtype not in (torch.float32, torch.float64):
            kinds = str(weight.dtype).removeprefix("torch.")
            raise InputError(f"fused_step needs float32 masters of {kinds} weights; give Proximal master=True")
        if parameter.grad is None:
            continue
        gradient = laid_out_as(parameter, parameter.grad)
        if gradient is not parameter.grad:
            parameter.grad = gradient  # it must live as long as the launch
        addresses[GRADIENT, number] = gradient.data_ptr()
        group, state = owner[id(parameter)], optimizer.state[parameter]
        if kind == SGD:
            rules[number, :3] = group["weight_decay"], group["momentum"], group["nesterov"]
            if group["momentum"]:
                if (
                    state.get("momentum_buffer") is None
                ):  # zero: the first step then makes it the gradient, as torch does
                    state["momentum_buffer"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
                addresses[FIRST, number] = kept(weight, state, "momentum_buffer").data_ptr()
            continue
        rules[number, :7] = _adamw_rule(group)
        if "step" not in state:
            on_device = group["capturable"] or group["fused"]
            state["step"] = torch.zeros((), dtype=torch.float32, device=weight.device if on_device else "cpu")
            state["exp_avg"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
        counts.append((number, state["step"]))
        addresses[FIRST, number] = kept(weight, state, "exp_avg").data_ptr()
        addresses[SECOND, number] = kept(weight, state, "exp_avg_sq").data_ptr()
    _count(table, addresses, counts)
    return DeviceUpdate(kind, addresses, rules, tuple(weights), copies)


def _adamw_rule(group: dict[str, Any]) -> tuple[float, ...]:
    if any(isinstance(beta, Tensor) for beta in group["betas"]):
        raise InputError("fused_step takes betas that are numbers; choose implementation='fused'")
    one, two = (float(beta) for beta in group["betas"])
    logs = (math.log(beta) if beta > 0 else -math.inf for beta in (one, two))
    return (group["weight_decay"], 1 - one, two, 1 - two, group["eps"], *logs)


def _count(table: Segments, addresses: np.ndarray, counts: list[tuple[int, Tensor]]) -> None:
    """Count the step of every tensor, and say where the kernel reads the count: on the device, where the host counts too."""
    if not counts:
        return
    steps = [step for _, step in counts]
    if any(step.dtype != torch.float32 for step in steps):
        raise InputError(
            "fused_step reads step counts of float32; set torch's default dtype to float32 before the first step"
        )
    torch._foreach_add_(steps, 1)
    there = device_table(table)
    if all(step.device == there.device and step.device.type == "cuda" for step in steps):
        for number, step in counts:
            addresses[COUNT, number] = step.data_ptr()
        return
    if any(step.device.type != "cpu" for step in steps):
        raise InputError(
            "some step counts of the optimizer's state lie on the host and some do not; load its state again"
        )
    host = np.zeros(len(table.tensors), dtype=np.float32)
    for number, step in counts:
        host[number] = float(step)
    if there.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        raise InputError("a captured AdamW must count its steps on the device; build it with capturable=True")
    staged = there.counts.put(host)
    for number, _ in counts:
        addresses[COUNT, number] = staged.data_ptr() + 4 * number
