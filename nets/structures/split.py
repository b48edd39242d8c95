"""Groups whose tensors are split over processes (fully_shard, FSDP2): each process holds some channels of every layer.

fully_shard splits every tensor along dimension 0, in chunks of ceil(size / processes). Filter, gamma and beta of a layer have
the same dimension 0, its channels, so a group lies whole on one process, and its proximal step needs no other.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn

from perspective.errors import InputError

if TYPE_CHECKING:
    from nets.structures.slices import Layer


def is_split(parameter: Tensor) -> bool:
    """Does this process hold a part of it only?"""
    if not (distributed.is_available() and distributed.is_initialized()):
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(parameter, DTensor)


def read_whole(parameter: Any) -> Tensor:
    """The whole tensor, detached; gathered from all processes where it is split (then all of them must ask)."""
    return parameter.detach().full_tensor() if is_split(parameter) else parameter.detach()


@torch.no_grad()
def write_whole(parameter: Any, content: Tensor) -> None:
    """Put a whole tensor into the parameter; where it is split, every process takes its part."""
    if is_split(parameter):
        part = own_channels(parameter, "a tensor")
        parameter.to_local().copy_(content.reshape(parameter.shape)[part])
    else:
        parameter.copy_(content.reshape(parameter.shape))


def own_channels(parameter: Any, name: str) -> slice:
    """The slices of dimension 0 that this process holds. InputError for a tensor that is split in any other way."""
    from torch.distributed.tensor import Replicate, Shard

    found = slice(0, parameter.shape[0])
    split = [dim for dim, placement in enumerate(parameter.placements) if type(placement) is not Replicate]
    if len(split) > 1 or any(type(parameter.placements[dim]) is not Shard for dim in split):
        raise InputError(f"{name} is split over several meshes; use fully_shard with one mesh, or do not split it")
    for dim in split:
        if parameter.placements[dim].dim != 0:
            raise InputError(f"{name} is not split by channels; leave shard_placement_fn out of fully_shard")
        chunk = -(-parameter.shape[0] // parameter.device_mesh.size(dim))
        first = min(parameter.shape[0], chunk * parameter.device_mesh.get_local_rank(dim))
        found = slice(first, min(parameter.shape[0], first + chunk))
    return found


@torch.no_grad()
def own_layer(layer: "Layer") -> "tuple[Layer, slice]":
    """The layer's groups that this process holds, and which of its channels they are: the layer itself where nothing is split.

    InputError where tensors of one group lie on different processes.
    """
    if not any(map(is_split, layer.parameters)):
        return layer, slice(0, layer.channels)
    parts = {
        (own_channels(p, layer.name).start, own_channels(p, layer.name).stop) for p in layer.parameters if is_split(p)
    }
    if len(parts) > 1 or not all(map(is_split, layer.parameters)):
        raise InputError(
            f"the tensors of {layer.name} are split differently over the processes, so its groups lie on several; "
            "hand the convolution and its batch normalisation to fully_shard together"
        )
    part = slice(*parts.pop())
    if any(span.index is not None for span in layer.spans):
        raise InputError(
            f"the groups of {layer.name} are no plain rows, so fully_shard splits them over several processes; leave its "
            "modules out of fully_shard, or take coupled=False"
        )
    local = tuple(replace(s, parameter=nn.Parameter(s.parameter.to_local(), requires_grad=False)) for s in layer.spans)
    return replace(layer, spans=local, channels=part.stop - part.start), part


def split_again(model: nn.Module) -> None:
    """After a forward pass the root of fully_shard keeps its tensors gathered; give back the split ones, which are trained."""
    if distributed.is_available() and distributed.is_initialized():
        from torch.distributed.fsdp import FSDPModule

        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
