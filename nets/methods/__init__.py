"""One pruning method a file; `ALL` is the list of them, in the order in which they are offered."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from nets.methods.bn_scale import BNScale
from nets.methods.chipnet import ChipNet
from nets.methods.greg1 import GReg1
from nets.methods.greg2 import GReg2
from nets.methods.group_lasso import GroupLasso
from nets.methods.layerwise import Layerwise
from nets.methods.lq import LQ
from nets.methods.magnitude import Magnitude
from nets.methods.masks import Masks
from nets.methods.method import Method
from nets.methods.none import NoPruning
from nets.methods.random import Random
from nets.methods.sap import SAP
from nets.methods.spr import SPR
from nets.methods.spr_subgradient import SPRSubgradient
from perspective.errors import InputError

ALL: tuple[type[Method], ...] = (
    NoPruning,
    SPR,
    SPRSubgradient,
    GroupLasso,
    GReg1,
    GReg2,
    ChipNet,
    LQ,
    SAP,
    BNScale,
    Magnitude,
    Layerwise,
    Random,
    Masks,
)


def choose_method(name: str, options: Mapping[str, Any]) -> Method:
    """The method of that name; each of its fields is taken from the option of that name, or keeps its default.

    An unknown name raises InputError with the valid ones.
    """
    kind = next((kind for kind in ALL if kind.name == name), None)
    if kind is None:
        raise InputError(f"unknown method {name!r}; choose one of {', '.join(kind.name for kind in ALL)}")
    own = [field.name for field in fields(kind)] if is_dataclass(kind) else []
    return kind(**{name: options[name] for name in own if name in options})


__all__ = ["ALL", "SPR", "GroupLasso", "Layerwise", "Magnitude", "Method", "NoPruning", "choose_method"]
