"""One pruning method a file; `ALL` is the list of them, in the order in which they are offered."""

from nets.methods.group_lasso import GroupLasso
from nets.methods.layerwise import Layerwise
from nets.methods.magnitude import Magnitude
from nets.methods.method import Method
from nets.methods.none import NoPruning
from nets.methods.spr import SPR
from perspective.errors import InputError

ALL: tuple[type[Method], ...] = (NoPruning, SPR, GroupLasso, Magnitude, Layerwise)


def choose_method(name: str, alpha: float, m_scale: float, layer_seconds: float = 30.0) -> Method:
    """The method of that name with its parameters; an unknown name raises InputError with the valid ones."""
    if name not in (kind.name for kind in ALL):
        raise InputError(f"unknown method {name!r}; choose one of {', '.join(kind.name for kind in ALL)}")
    if name == SPR.name:
        return SPR(alpha, m_scale)
    if name == Layerwise.name:
        return Layerwise(layer_seconds)
    return next(kind for kind in ALL if kind.name == name)()


__all__ = ["ALL", "SPR", "GroupLasso", "Layerwise", "Magnitude", "Method", "NoPruning", "choose_method"]
