"""relu(norm(x) + residual), by torch's operations or, inside `fused_norms`, by one compiled pair of passes over memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import module as hooks

MOST_THREADS = 1  # of torch, up to which the fused loops (of one thread) are faster than torch's own

_FUSED: ContextVar[bool] = ContextVar("fused_norms", default=False)


@contextmanager
def fused_norms(wanted: bool = True) -> Iterator[None]:
    """Inside, `norm_relu` takes the fused loops wherever they can stand for torch's operations; training steps enter it."""
    token = _FUSED.set(wanted)
    try:
        yield
    finally:
        _FUSED.reset(token)


def norm_relu(norm: nn.Module, x: Tensor, residual: Tensor | None = None) -> Tensor:
    """relu(norm(x) [+ residual]), x (batch, channels, height, width); the fused answer is rounded to x's dtype once."""
    if _FUSED.get() and is_fusible(norm, x, residual):
        from nets.fused.norm import fused_norm_relu  # brings the compiler's library along

        return fused_norm_relu(norm, x, residual)
    y = norm(x)
    return F.relu(y if residual is None else y + residual)


def is_fusible(norm: nn.Module, x: Tensor, residual: Tensor | None) -> bool:
    """Would the fused loops see everything that torch's operations would? Nothing looks at the pieces (hooks, tracers), and
    memory is as the loops read it."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._len_torch_dispatch_stack() > 0:
        return False
    return (
        torch.is_grad_enabled()
        and _is_plain_norm(norm)
        and _is_readable(x, x)
        and (residual is None or _is_readable(residual, x))
        and norm.num_features == x.shape[1]
        and x.numel() > x.shape[1] > 0  # torch refuses a batch of one number a channel with its own sentence
        and torch.get_num_threads() <= MOST_THREADS
    )


def _is_plain_norm(norm: nn.Module) -> bool:
    """torch's own module in training, without hooks; a parametrised one is of another type."""
    return (
        type(norm) is nn.BatchNorm2d
        and norm.training
        and all(type(p) is nn.Parameter and _is_row(p) for p in (norm.weight, norm.bias))
        and all(t is None or _is_row(t) for t in (norm.running_mean, norm.running_var))
        and "forward" not in vars(norm)
        and not (norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks or norm._backward_pre_hooks)
        and not hooks._has_any_global_hook()
    )


def _is_row(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.is_contiguous()


def _is_readable(tensor: Tensor, like: Tensor) -> bool:
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and tensor.device.type == "cpu"
        and tensor.dim() == 4
        and tensor.dtype in (torch.float32, torch.bfloat16)
        and (tensor.dtype, tensor.shape) == (like.dtype, like.shape)
        and tensor.is_contiguous(memory_format=torch.channels_last)
    )
