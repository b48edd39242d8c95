"""From torch-pruning's graph to sets of channels that die together: union over (place, channel).

Two channels are tied where they stand in one tensor (additions, products, batch normalisation), where a depthwise
convolution, an option-A shortcut or a Scatter hands one on as the other, and where they belong to one group of a grouped
convolution: such a group is kept or removed whole, inputs and outputs, so that all groups keep one width.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import nn

from nets.resnet import PadShortcut
from nets.shrink.scatter import Scatter
from nets.structures.coupling_operations import OPERATIONS, refuse_operation
from nets.structures.coupling_places import TRANSPOSED, WRITERS, Place, places_of
from nets.structures.coupling_trace import ROUTES, Source, Trace
from nets.structures.coupling_walk import Ints, walk_channels


@final
@dataclass(frozen=True, eq=False)
class TiedSet:
    """Channels of one kind: sides[i] = (place, (channels, k) integers): there channel c is the places' channels [c, :]."""

    sides: tuple[tuple[Place, Ints], ...]

    @property
    def channels(self) -> int:
        return len(self.sides[0][1])

    @property
    def writers(self) -> tuple[Place, ...]:
        return tuple(place for place, _ in self.sides if place.writes)


@final
class Ties:
    """Collects ties and pins while the graph is read; `places` are numbered through, `base` says where each begins."""

    def __init__(self, places: list[Place]) -> None:
        self.places = places
        self.base = np.cumsum([0, *(place.width for place in places)])
        self.number = {(id(place.owner), place.side): i for i, place in enumerate(places)}
        self.pairs: list[tuple[Ints, Ints]] = []
        self.seen, self.walked = np.zeros((2, self.base[-1]), dtype=bool)
        self.pins: dict[int, str] = {}

    def at(self, owner: Any, side: str) -> int | None:
        return self.number.get((id(owner), side))

    def tie(self, one: int, ones: Ints, other: int, others: Ints) -> None:
        first, second = self.base[one] + ones, self.base[other] + others
        self.pairs.append((first, second))
        self.seen[first] = self.seen[second] = True

    def pin(self, place: int, channels: Ints, reason: str) -> None:
        for channel in self.base[place] + channels:
            self.pins.setdefault(int(channel), reason)

    def components(self) -> Iterator[tuple[Ints, str | None]]:
        """(channels numbered through, why they are left out or None) of every set that the graph reached."""
        first = np.concatenate([one for one, _ in self.pairs] or [np.zeros(0, np.int64)])
        second = np.concatenate([other for _, other in self.pairs] or [np.zeros(0, np.int64)])
        size = int(self.base[-1])
        _, label = connected_components(
            coo_matrix((np.ones(len(first)), (first, second)), (size, size)), directed=False
        )
        reasons = {int(label[channel]): reason for channel, reason in reversed(self.pins.items())}
        atoms = np.flatnonzero(self.seen)
        atoms = atoms[np.argsort(label[atoms], kind="stable")]
        for part in np.split(atoms, np.flatnonzero(np.diff(label[atoms])) + 1) if len(atoms) else ():
            yield part, reasons.get(int(label[part[0]]))


def tie_channels(trace: Trace, leave: frozenset[str], refused: dict[str, str]) -> tuple[list[TiedSet], dict[str, str]]:
    """(sets of tied channels, (writer, reason) where some of a writer's channels are in none).

    leave: names of writers whose outputs are grouped elsewhere; refused: name of a module -> why it may not be touched.
    """
    ties = Ties(_list_places(trace))
    roots = [i for i, p in enumerate(ties.places) if p.side == "out" and isinstance(p.owner, (*WRITERS, *ROUTES))]
    for place in ties.places:
        number = ties.at(place.owner, place.side)
        if place.name in refused and number is not None:
            ties.pin(number, np.arange(place.width), f"{place.name}: {refused[place.name]}")
        _tie_inside(ties, place)
    for root in roots:
        place = ties.places[root]
        if place.owner in trace.graph.module2node and place.name not in leave:
            _follow(trace, ties, root)
    kinds: dict[tuple[tuple[int, int], ...], list[Ints]] = {}
    reasons: dict[str, str] = {}
    for atoms, reason in ties.components():
        numbers, counts = np.unique(np.searchsorted(ties.base, atoms, side="right") - 1, return_counts=True)
        writers = [ties.places[i] for i in numbers if ties.places[i].writes and ties.places[i].name not in leave]
        if reason is not None:
            for writer in writers:
                reasons.setdefault(writer.name, reason)
        elif writers:
            kinds.setdefault(tuple(zip(numbers.tolist(), counts.tolist(), strict=True)), []).append(atoms)
    for root in roots:
        place = ties.places[root]
        if place.writes and place.name not in leave and not ties.seen[ties.base[root] : ties.base[root + 1]].all():
            reasons.setdefault(place.name, "autograd sees no way from it to the outputs (detach or no_grad?)")
    return [_make_set(ties, kind, np.stack(atoms)) for kind, atoms in kinds.items()], reasons


def _make_set(ties: Ties, kind: tuple[tuple[int, int], ...], atoms: Ints) -> TiedSet:
    ends = np.cumsum([count for _, count in kind])[:-1]
    sides = [
        (ties.places[number], part - ties.base[number])
        for (number, _), part in zip(kind, np.split(atoms, ends, axis=1), strict=True)
    ]
    return TiedSet(tuple(sides))


def _list_places(trace: Trace) -> list[Place]:
    """Layers in the order of their call, then parameters that stand alone, then modules that route channels."""
    modules = dict(trace.network.named_modules())
    places = [place for name in trace.calls if name in modules for place in places_of(name, modules[name])]
    names = {id(p): name for name, p in trace.network.named_parameters()}
    for node in trace.graph.module2node.values():
        if isinstance(node.module, nn.Parameter):
            width = node.module.shape[node.pruning_dim]
            places.append(Place(names[id(node.module)], node.module, "out", width, node.pruning_dim))
    for name, module in modules.items():
        if isinstance(module, ROUTES) and module in trace.widths:
            places += [
                Place(name, module, side, width)
                for side, width in zip(("in", "out"), trace.widths[module], strict=True)
            ]
    return places


def _follow(trace: Trace, ties: Ties, root: int) -> None:
    """Tie the outputs of one writer to all that torch-pruning would cut with them."""
    place = ties.places[root]
    if ties.walked[ties.base[root] : ties.base[root + 1]].all():
        return  # reached from another writer, with everything that hangs on it
    found = list(walk_channels(trace.graph, place.owner, place.width, limit=int(ties.base[-1])))
    found.sort(key=lambda step: step[0].type.name in OPERATIONS)  # a layer is the better reason
    for node, side, channels, sources in found:
        number = ties.at(node.module, side)
        reason = _refuse(node) if number is None else None
        if channels.max() >= (ties.base[-1] if number is None else ties.places[number].width):
            reason = "torch-pruning loses count of them at NAME"
        if reason is not None:
            ties.pin(root, sources, reason.replace("NAME", _name(trace, node)))
        elif number is not None:
            ties.tie(number, channels, root, sources)
            ties.walked[ties.base[number] + channels] = True


def _refuse(node: Any) -> str | None:
    if isinstance(node.module, Source):
        return "they are tied to the network's inputs"
    if node.type.name in OPERATIONS:
        return refuse_operation(node)
    return f"NAME ({type(node.module).__name__}) reads them, and its outputs depend on all of its inputs"


def _name(trace: Trace, node: Any) -> str:
    return next((name for name, module in trace.network.named_modules() if module is node.module), str(node.module))


def _tie_inside(ties: Ties, place: Place) -> None:
    """Ties inside a module that torch-pruning does not make: grouped convolutions and routes."""
    owner, one, other = place.owner, ties.at(place.owner, "in"), ties.at(place.owner, "out")
    if place.side != "out" or one is None or other is None:
        return
    inputs = np.arange(ties.places[one].width)
    if isinstance(owner, PadShortcut):
        ties.tie(one, inputs, other, inputs + owner.before)
    elif isinstance(owner, Scatter):
        sources = owner.sources()[0].numpy()
        written = np.flatnonzero(sources >= 0)
        ties.tie(one, sources[written], other, written)
    elif getattr(owner, "groups", 1) > 1:
        if isinstance(owner, TRANSPOSED):
            ties.pin(other, np.arange(place.width), f"{place.name} is a transposed convolution in groups")
        groups = owner.groups
        first = np.arange(groups)
        for k in range(ties.places[one].width // groups):
            ties.tie(one, first * (len(inputs) // groups) + k, other, first * (place.width // groups))
        for k in range(place.width // groups):
            ties.tie(other, first * (place.width // groups) + k, other, first * (place.width // groups))
