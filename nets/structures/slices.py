"""Which numbers of which parameters belong to which channel of a layer: `Span` for one parameter, `Layer` for all.

A group owns *output-side* slices only: filters, biases, gamma and beta, rows of Linear layers, of every layer that writes
the channel. The columns with which later layers read the channel are left out on purpose: every convolution's weight would
then lie in two groups (its filter's and its input channel's), and the prox would no longer separate over the groups.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor, nn

from nets.structures.split import is_split, read_whole, write_whole
from perspective.errors import InputError


@final
@dataclass(frozen=True, eq=False)
class Span:
    """Slices of one parameter, channel by channel.

    dim    the parameter's dimension along which the slices lie
    index  (channels, k) integers: channel c owns the slices index[c]; None: channel c owns slice c of dimension 0
    """

    parameter: nn.Parameter
    dim: int = 0
    index: Tensor | None = None

    @cached_property
    def per_channel(self) -> int:
        """How many numbers one channel owns."""
        slices = 1 if self.index is None else self.index.shape[1]
        return slices * (self.parameter.numel() // self.parameter.shape[self.dim])

    def read(self, channels: int) -> Tensor:
        """(channels, per_channel); a copy where `index` is given, perhaps a view where it is not."""
        if self.index is None:
            return read_whole(self.parameter).reshape(channels, -1)
        return read_whole(self.parameter).movedim(self.dim, 0)[self._places()].reshape(channels, -1)

    def write(self, rows: Tensor) -> None:
        """Put (channels, per_channel) numbers into the parameter itself; call it under torch.no_grad()."""
        if self.index is None:
            write_whole(self.parameter, rows)
            return
        whole = read_whole(self.parameter)  # itself, where it is not split: what is put here stands in the parameter
        slices = whole.movedim(self.dim, 0)
        slices.index_put_((self._places(),), rows.to(slices.dtype).reshape(*self.index.shape, *slices.shape[1:]))
        if is_split(self.parameter):
            write_whole(self.parameter, whole)

    def _places(self) -> Tensor:
        assert self.index is not None
        return self.index.to(self.parameter.device)  # the network may have moved since the groups were found


@final
@dataclass(frozen=True)
class Layer:
    """Groups of one shape: the output channels of a convolution or Linear layer, the heads of an attention layer, or
    the coupled channels of several layers.

    name      the (first) writing layer's name in the network; "name@c" where channels from c on form a set of their own
    bn        name of the batch normalisation that follows it, or None
    spans     the numbers of the groups; a row of a group holds them in this order
    channels  number of groups
    members   names of all convolutions and Linear layers with numbers in the groups
    """

    name: str
    bn: str | None
    spans: tuple[Span, ...]
    channels: int
    members: tuple[str, ...]

    @cached_property
    def n(self) -> int:
        """Numbers in one group."""
        return sum(self.widths)

    @cached_property
    def widths(self) -> list[int]:
        """Numbers of one group in each span."""
        return [span.per_channel for span in self.spans]

    @cached_property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """The network's own parameters that hold numbers of the groups, each once."""
        return tuple({id(span.parameter): span.parameter for span in self.spans}.values())

    @property
    def conv(self) -> str:
        """The convolution's name (the layer's name)."""
        return self.name


def refuse_overlap(layers: tuple[Layer, ...]) -> None:
    """InputError where a number of the network would lie in two groups."""
    taken: dict[int, Tensor] = {}
    for layer in layers:
        for span in layer.spans:
            mask = taken.setdefault(id(span.parameter), torch.zeros(span.parameter.shape, dtype=torch.bool))
            slices = mask.movedim(span.dim, 0)
            places = torch.arange(len(slices)) if span.index is None else span.index.cpu().flatten()
            if bool(slices[places].any()) or len(places.unique()) < len(places):
                raise InputError(
                    f"{layer.name} shares a parameter with another layer; shared layers cannot be pruned by channel"
                )
            slices[places] = True
