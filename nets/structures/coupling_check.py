"""The law that tied channels obey: renumbering the channels of a set, wherever they stand, changes no output.

A tie that is wrong or missing (an operation that torch-pruning misread, an offset in a concatenation, a reader outside
autograd) breaks it. The test is on numbers, in float64, on the traced copy with random biases, scales and statistics.
"""

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nets.structures.coupling_ties import TiedSet

TOLERANCE = 1e-8  # of the largest output; rounding in float64 gives about 1e-13, a wrong tie 1e-2 and more


@torch.no_grad()
def find_wrong_sets(network: nn.Module, inputs: tuple[Tensor, ...], sets: list[TiedSet]) -> list[TiedSet]:
    """The sets whose renumbering changes the outputs of `network` (float64, which this function disturbs)."""
    generator = torch.Generator().manual_seed(0)
    _disturb(network, generator)
    fed = tuple(
        torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device) if x.is_floating_point() else x
        for x in inputs
    )
    tensors = dict([*network.named_parameters(), *network.named_buffers()])
    before = _run(network, fed)

    def breaks(chosen: list[TiedSet]) -> bool:
        return not (keeps(chosen, reverse=True) and keeps(chosen, reverse=False))

    def keeps(chosen: list[TiedSet], reverse: bool) -> bool:
        changed = {
            name: tensors[name].clone() for tied in chosen for place, _ in tied.sides for name, _ in place.slices()
        }
        for tied in chosen:
            order = (
                range(tied.channels)[::-1] if reverse else torch.randperm(tied.channels, generator=generator).tolist()
            )
            _renumber(tensors, tied, list(order))
        after = _run(network, fed)
        for name, tensor in changed.items():
            tensors[name].copy_(tensor)
        return len(before) == len(after) and all(
            # NaN is not the same
            one.shape == two.shape and float((one - two).abs().max()) <= TOLERANCE * float(one.abs().max())
            for one, two in zip(before, after, strict=True)
        )

    return [tied for tied in sets if breaks([tied])] if sets and breaks(sets) else []


def _renumber(tensors: dict[str, Tensor], tied: TiedSet, order: list[int]) -> None:
    for place, index in tied.sides:
        for name, dim in place.slices():
            tensor = tensors[name]
            places = torch.arange(tensor.shape[dim])
            places[torch.from_numpy(index.flatten())] = torch.from_numpy(index[order].flatten())
            tensor.copy_(tensor.index_select(dim, places.to(tensor.device)))


def _disturb(network: nn.Module, generator: torch.Generator) -> None:
    """Numbers that are all alike (ones, zeros) would hide a wrong tie."""
    for tensor in [*network.parameters(), *network.buffers()]:
        if tensor.is_floating_point() and (tensor.ndim <= 1 or bool((tensor == tensor.flatten()[0]).all())):
            noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float64).to(tensor)
            tensor.copy_(tensor + 0.2 * noise)


def _run(network: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    return [x.double() for x in tree_leaves(network(*inputs)) if isinstance(x, Tensor)]
