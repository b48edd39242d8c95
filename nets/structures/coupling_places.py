"""Where channels stand in a network: the outputs and inputs of its layers, and which numbers each channel has there."""

from dataclasses import dataclass
from typing import Literal, final

from torch import nn

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)
WRITERS = (*CONVOLUTIONS, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@final
@dataclass(frozen=True, eq=False)
class Place:
    """One side of a layer, or a parameter that the network itself multiplies or adds (layer scale).

    name   of the module or parameter; width: number of channels; dim: of a parameter, where its channels lie
    """

    name: str
    owner: nn.Module | nn.Parameter
    side: Literal["in", "out"]
    width: int
    dim: int = 0

    @property
    def writes(self) -> bool:
        """Is this the output side of a convolution or Linear layer?"""
        return self.side == "out" and isinstance(self.owner, WRITERS)

    def slices(self) -> tuple[tuple[str, int], ...]:
        """(tensor's name in the network, dimension of the channels): what is permuted with the channels here."""
        owner, prefix = self.owner, f"{self.name}." if self.name else ""
        if isinstance(owner, nn.Parameter):
            return ((self.name, self.dim),)
        if isinstance(owner, NORMS):
            names = [("weight", 0), ("bias", 0), ("running_mean", 0), ("running_var", 0)]
        elif not isinstance(owner, WRITERS):
            names = []
        elif self.side == "out":
            names = [("weight", 1 if isinstance(owner, TRANSPOSED) else 0), ("bias", 0)]
        elif getattr(owner, "groups", 1) > 1:
            names = []  # the inputs are counted inside each group, and a group moves as a whole
        else:
            names = [("weight", 0 if isinstance(owner, TRANSPOSED) else 1)]
        return tuple((prefix + name, dim) for name, dim in names if getattr(owner, name) is not None)


def places_of(name: str, module: nn.Module) -> tuple[Place, ...]:
    """The places of one module: outputs, then inputs; none for modules that have no channels of their own."""
    if isinstance(module, nn.Linear):
        widths = (module.out_features, module.in_features)
    elif isinstance(module, CONVOLUTIONS):
        widths = (module.out_channels, module.in_channels)
    elif isinstance(module, NORMS):
        return (Place(name, module, "out", module.num_features),)
    else:
        return ()
    return Place(name, module, "out", widths[0]), Place(name, module, "in", widths[1])
