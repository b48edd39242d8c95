"""How far apart the outputs of two networks are: the largest number, or the divergence of class scores."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from perspective.errors import InputError


def largest_difference(first: nn.Module, second: nn.Module, inputs: Sequence[Tensor]) -> float:
    """max |first(x) - second(x)| over the inputs and one seeded standard normal batch of their shapes.

    Both networks must be in evaluation mode. InputError where an output is not finite or the shapes differ.
    """
    if any(x.ndim == 0 or len(x) == 0 for x in inputs):
        raise InputError(
            "the example inputs are an empty batch, on which every network agrees; give at least one example"
        )
    generator = torch.Generator().manual_seed(0)
    random = [torch.randn(x.shape, generator=generator).to(x) if x.is_floating_point() else x for x in inputs]
    largest = 0.0
    # TF32 convolutions round to ten bits, which would be all the difference there is to see.
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        for batch in (inputs, random):
            pairs = zip(_outputs(first, batch), _outputs(second, batch), strict=True)
            for one, other in pairs:
                if one.shape != other.shape:
                    raise InputError(
                        f"outputs of shapes {tuple(one.shape)} and {tuple(other.shape)} cannot be compared"
                    )
                if one.numel():
                    largest = max(largest, float((one.double() - other.double()).abs().max()))
    return largest


def divergence(scores: Tensor, truth: Tensor) -> float:
    """Mean over the batch of KL(softmax(truth) || softmax(scores)), in float64; scores (batch, classes)."""
    logs = F.log_softmax(truth.double(), 1)
    return float((logs.exp() * (logs - F.log_softmax(scores.double(), 1))).sum(1).mean())


def _outputs(model: nn.Module, batch: Sequence[Tensor]) -> list[Tensor]:
    outputs = [leaf for leaf in tree_leaves(model(*batch)) if isinstance(leaf, Tensor)]
    if not all(bool(torch.isfinite(leaf).all()) for leaf in outputs if leaf.is_floating_point()):
        raise InputError("the network's output is not finite; its weights or the example inputs hold NaN or infinity")
    return outputs
