"""A network whose batch-normalisation statistics are random and whose groups are zero, half of them, drawn by a seed.

A group here: a convolution's filter with the (gamma, beta) that follows it; a hidden Linear layer's row and bias (one that a
later Linear layer of the same Sequential reads); the value rows and value bias of an attention head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@final
@dataclass(frozen=True)
class Zeroed:
    """model: the network, changed in place; groups: how many it has; zeroed: how many of them are zero now."""

    model: nn.Module
    groups: int
    zeroed: int


def pictures(count: int, size: int, seed: int) -> Tensor:
    """(count, 3, size, size): smooth random pictures with noise on them, so that they differ more than noise would."""
    generator = torch.Generator().manual_seed(seed)
    smooth = F.interpolate(torch.randn(count, 3, 4, 4, generator=generator), size=(size, size), mode="bilinear")
    return smooth + 0.3 * torch.randn(count, 3, size, size, generator=generator)


@torch.no_grad()
def disturb(model: nn.Module, inputs: Tensor, generator: torch.Generator, shifts: bool = True) -> None:
    """Random scales, shifts and layer scales; batch-normalisation statistics near those of `inputs`, with random errors; a
    classifier whose logits differ from input to input by about 1. So no signal dies, and no constant is zero by accident.
    `shifts`: beta stays zero where gamma is; without it every beta is random."""
    handles = []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            dead = (module.weight == 0) & shifts
            weight, bias = (torch.rand(module.weight.shape, generator=generator) for _ in range(2))
            module.weight.data.copy_(torch.where(module.weight == 0, 0, 0.5 + weight))
            module.bias.data.copy_(torch.where(dead, 0, bias - 0.5))
        if isinstance(module, nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(_settler(generator)))
        if isinstance(getattr(module, "layer_scale", None), nn.Parameter):
            module.layer_scale.data.uniform_(0.2, 1.0, generator=generator)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    last.weight.data.copy_(torch.randn(last.weight.shape, generator=generator))
    logits = model.eval()(inputs)
    last.weight /= logits.std(dim=0).mean()
    for handle in handles:
        handle.remove()


def _settler(generator: torch.Generator) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def settle(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        mean, variance = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), correction=0)
        least = 0.1 * variance[variance > 0].mean() if bool((variance > 0).any()) else torch.ones(())
        variance = variance.clamp(min=least) * (0.5 + torch.rand(mean.shape, generator=generator))
        module.running_var.copy_(variance)
        module.running_mean.copy_(mean + 0.3 * variance.sqrt() * torch.randn(mean.shape, generator=generator))

    return settle


def zero_groups(model: nn.Module, share: float, generator: torch.Generator, shifts: bool = True) -> Zeroed:
    """Zero `share` of the groups of each layer. `shifts`: beta too; without it only filter and gamma."""
    groups = zeroed = 0
    modules = list(model.modules())
    hidden = _hidden(model)
    for module, following in zip(modules, [*modules[1:], None], strict=True):
        if isinstance(module, nn.Conv2d):
            dead = _draw(module.out_channels, share, generator)
            module.weight.data[dead] = 0
            if isinstance(following, nn.BatchNorm2d):
                following.weight.data[dead] = 0
                if shifts:
                    following.bias.data[dead] = 0
            if module.bias is not None:
                module.bias.data[dead] = 0
        elif module in hidden and isinstance(module, nn.Linear):
            dead = _draw(module.out_features, share, generator)
            module.weight.data[dead], module.bias.data[dead] = 0, 0
        elif isinstance(module, nn.MultiheadAttention):
            dead = _draw(module.num_heads, share, generator)
            for rows in (module.in_proj_weight, module.in_proj_bias):
                rows.data.view(3, module.num_heads, module.head_dim, -1)[2, dead] = 0
        else:
            continue
        groups, zeroed = groups + len(dead), zeroed + int(dead.sum())
    return Zeroed(model, groups, zeroed)


def _draw(count: int, share: float, generator: torch.Generator) -> Tensor:
    """(count,) boolean: a random `share` of them, rounded down, so that one is always left."""
    dead = torch.zeros(count, dtype=torch.bool)
    dead[torch.randperm(count, generator=generator)[: int(share * count)]] = True
    return dead


def _hidden(model: nn.Module) -> set[nn.Module]:
    """Linear layers behind which another one stands in the same Sequential."""
    found: set[nn.Module] = set()
    for sequence in model.modules():
        if isinstance(sequence, nn.Sequential):
            found.update([child for child in sequence if isinstance(child, nn.Linear)][:-1])
    return found
