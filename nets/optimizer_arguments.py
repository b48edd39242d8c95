"""What `Proximal` is given, checked: one regulariser for each layer, the strength, the closure of a step."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from nets.groups import ChannelGroups
from perspective.errors import InputError


def evaluate(closure: Callable[[], Any] | None) -> Any:
    """The closure's loss, with gradients on, as torch's optimizers evaluate it."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def by_layer(groups: ChannelGroups, regulariser: Any) -> dict[str, Any]:
    """A bound regulariser for each layer; InputError where one is missing, unknown or not bound."""
    each = regulariser.values() if isinstance(regulariser, Mapping) else [regulariser]
    if not all(hasattr(r, "zero_threshold") for r in each):
        raise InputError(
            "the regulariser has no numbers yet; pass derive(block).bind(...), or a mapping of such by layer"
        )
    if not isinstance(regulariser, Mapping):
        return {layer.name: regulariser for layer in groups.layers}
    missing = [layer.name for layer in groups.layers if layer.name not in regulariser]
    unknown = sorted(set(regulariser) - {layer.name for layer in groups.layers})
    if missing or unknown:
        raise InputError(f"the regularisers do not fit the layers: missing {missing}, unknown {unknown}")
    return dict(regulariser)


def checked_strength(strength: float | Tensor) -> float | Tensor:
    """The strength, a number unless it is a tensor; InputError where it is not finite and >= 0."""
    try:
        number = float(strength)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 <= number < float("inf"):
        raise InputError(f"the strength is {strength!r}; it must be a finite number >= 0")
    return strength if isinstance(strength, Tensor) else number
