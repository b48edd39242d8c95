"""Masks that travel: prune exactly the channels that another run pruned, on another data set or for other classes.

Source of the idea: Tiwari, Bamba, Chavan, Gupta, "ChipNet", ICLR 2021: masks found on one data set are used on another. Every run
that prunes by groups (all methods but layerwise) writes RUN/masks.json:
{"format": 1, "layers": {name: {"channels": count, "kept": [channel, ...]}}}, names and channels of its groups. A classifier is in
no group, so the number of classes may differ.
The authors' code transfers them before fine-tuning (finetuning.py --host_name), as here. Taken as given, for want of the paper's
text: nothing else.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

from torch import Tensor, nn
from torch.optim import Optimizer

from nets.budget import zero_channels
from nets.gauge import Gauge
from nets.groups import ChannelGroups
from nets.methods.method import Method
from perspective.errors import InputError
from perspective.files import write_text


@final
@dataclass(frozen=True)
class Masks(Method):
    """masks: a file that `write_masks` wrote. A budget besides takes the channels of smallest norm among the kept."""

    masks: str | None = None
    name: ClassVar[str] = "masks"
    regularises: ClassVar[bool] = False
    makes_zeros: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.masks is None:
            raise InputError("method masks takes the channels of another run; add --masks RUN/masks.json")

    def refuse_unfit(self, model: nn.Module, groups: ChannelGroups, gauge: Gauge | None) -> None:
        read_masks(Path(str(self.masks)), groups)

    def scores(self, groups: ChannelGroups, prepared: Mapping[str, Any]) -> dict[str, Tensor]:
        """Norms, as the magnitude baseline has them."""
        return {layer.name: groups.rows(layer).double().norm(dim=1).cpu() for layer in groups.layers}

    def conclude(
        self, optimizer: Optimizer | None, groups: ChannelGroups, prepared: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        kept = read_masks(Path(str(self.masks)), groups)
        zero_channels(groups, [(x.name, k) for x in groups.layers for k in range(x.channels) if k not in kept[x.name]])
        return self.scores(groups, prepared)


def write_masks(path: Path, groups: ChannelGroups) -> None:
    """The channels of each layer that are not zero."""
    layers = {
        layer.name: {"channels": layer.channels, "kept": groups.alive(layer).nonzero().flatten().tolist()}
        for layer in groups.layers
    }
    write_text(path, json.dumps({"format": 1, "layers": layers}) + "\n")


def read_masks(path: Path, groups: ChannelGroups) -> dict[str, frozenset[int]]:
    """The kept channels by layer, all of them for a layer that the file does not name; InputError where the file does not fit
    the network."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        layers = {str(name): (int(x["channels"]), [int(k) for k in x["kept"]]) for name, x in content["layers"].items()}
        known = content["format"] == 1
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} holds no masks ({type(error).__name__}); give the masks.json of a run that pruned"
        ) from error
    if not known:
        raise InputError(f"{path} holds masks of another format; write it again with this version")
    here = {layer.name: layer.channels for layer in groups.layers}
    for name, (channels, kept) in layers.items():
        if here.get(name) != channels or not set(kept) <= set(range(channels)):
            raise InputError(
                f"{path} has {channels} channels of {name}, the network {here.get(name, 'no such layer')}; "
                "take masks of the same architecture, width and kind of groups"
            )
    return {name: frozenset(layers[name][1] if name in layers else range(count)) for name, count in here.items()}
