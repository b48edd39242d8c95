"""Parameters and buffers that a module of a class of its own holds itself (a layer scale): their shapes, and narrower ones."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from perspective.errors import InputError


def describe_parameters(model: nn.Module) -> dict[str, list[int]]:
    """{path: shape} of each; torch's modules and this package's are told apart by their kind already."""
    return {path: list(tensor.shape) for path, _, _, tensor in _own(model)}


def narrow_parameters(model: nn.Module, shapes: Mapping[str, Any]) -> None:
    """Give these parameters of `model` the shapes, with unset numbers. InputError for one that is absent or would grow."""
    present = {path: (owner, name, tensor) for path, owner, name, tensor in _own(model)}
    for path, shape in shapes.items():
        fits = path in present and isinstance(shape, list) and len(shape) == present[path][2].dim()
        if not fits or not all(_is_size(n) and n <= m for n, m in zip(shape, present[path][2].shape, strict=True)):
            raise InputError(
                f"the description of parameter {path} is damaged or belongs to another network; save it again"
            )
        owner, name, tensor = present[path]
        if list(tensor.shape) == shape:
            continue
        empty = torch.empty(shape, dtype=tensor.dtype, device=tensor.device)
        if isinstance(tensor, nn.Parameter):
            setattr(owner, name, nn.Parameter(empty, requires_grad=tensor.requires_grad))
        else:
            owner.register_buffer(name, empty, persistent=name not in owner._non_persistent_buffers_set)


def _own(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
    for prefix, owner in model.named_modules():
        if type(owner).__module__.startswith(("torch.nn.", "nets.shrink.scatter", "nets.shrink.attention")):
            continue
        held = [*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False)]
        for name, tensor in held:
            yield f"{prefix}.{name}" if prefix else name, owner, name, tensor


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
