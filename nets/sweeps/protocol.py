"""The protocol of a comparison of methods: the same dense network for a seed, the same budgets, the same number of epochs.

dense_seed-0                          trained once for each seed (or the weights given, for all of them)
method-spr_budget-macs=0.5_seed-0     pruned from it: E epochs under the method's penalty and F after removal; a method
                                      without such a phase gets all E + F after removal, one with --own METHOD:epochs=K
                                      K and E + F - K
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from nets.gauge import parse_budget
from nets.methods import ALL as METHODS
from nets.methods import Method
from nets.settings import RECIPES, Settings, new_settings
from nets.sweeps.grid import Cell
from perspective.errors import InputError

DENSE_FLAGS = (  # of those given, what the dense networks are trained with; the rest by the data set's recipe
    *("net", "data", "data_dir", "width", "shortcut", "image_size"),
    *("workers", "batch_size", "accumulate", "precision", "device"),
)


@final
@dataclass(frozen=True)
class Protocol:
    """epochs: under a penalty; finetune_epochs: after removal; dense_epochs: of the dense networks, where they are trained;
    weights: run folder or weights file that stands for the dense network of every seed; shared: flags of every cell;
    own: by method, flags that only it has."""

    methods: tuple[str, ...]
    budgets: tuple[str, ...]
    seeds: tuple[int, ...]
    epochs: int
    finetune_epochs: int
    dense_epochs: int
    weights: Path | None
    shared: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Training epochs of every cell, after its dense network."""
        return self.epochs + self.finetune_epochs

    def split(self, method: str) -> tuple[int, int]:
        """Its epochs under a penalty (0 for a method without one) and after removal: always `total` in all. InputError: its own
        --epochs do not fit."""
        own = self.own.get(method, {}).get("epochs")
        if own is not None and not kind_of(method).regularises:
            raise InputError(f"--own {method}:epochs={own}: {method} has no phase under a penalty; leave it out")
        if own is not None and not 1 <= own <= self.total:
            raise InputError(
                f"--own {method}:epochs={own}: every method has {self.total} epochs; take 1 to {self.total}"
            )
        under = (self.epochs if own is None else own) if kind_of(method).regularises else 0
        return under, self.total - under

    def dense_name(self, seed: int) -> str:
        """The run folder of a seed's dense network."""
        return f"dense_seed-{seed}"


def lay_out_dense(protocol: Protocol) -> tuple[Cell, ...]:
    """A training for each seed; none where weights are given. Settings that no run can have raise InputError."""
    if protocol.weights is not None:
        return ()
    flags = {name: protocol.shared[name] for name in DENSE_FLAGS if name in protocol.shared}
    cells = []
    for seed in protocol.seeds:
        settings = {**flags, "method": "none", "epochs": protocol.dense_epochs, "seed": seed}
        new_settings("train", settings)
        cells.append(Cell(protocol.dense_name(seed), "train", {"seed": str(seed)}, settings, ()))
    return tuple(cells)


def lay_out_methods(protocol: Protocol, out: Path) -> tuple[Cell, ...]:
    """A pruning for each method, budget and seed, in this order. Settings that no run can have raise InputError."""
    cells = []
    for method in protocol.methods:
        under, after = protocol.split(method)
        for budget in protocol.budgets:
            for seed in protocol.seeds:
                dense = (out / protocol.dense_name(seed) if protocol.weights is None else protocol.weights).resolve()
                settings = {
                    **protocol.shared,
                    **after_removal(protocol, method),
                    **protocol.own.get(method, {}),
                    "dense": str(dense),
                    "method": method,
                    "epochs": under or protocol.epochs,
                    "finetune_epochs": after,
                    "budget": budget,
                    "seed": seed,
                }
                new_settings("prune", settings)
                name = f"method-{method}_budget-{budget}_seed-{seed}"
                axes = {"method": method, "budget": budget, "seed": str(seed)}
                source = ("--weights", str(dense)) if dense.is_file() else (str(dense),)
                cells.append(Cell(name, "prune", axes, settings, source))
    return tuple(cells)


def after_removal(protocol: Protocol, method: str) -> dict[str, Any]:
    """The fine-tuning of a method with a rate or an optimizer of its own: that of all methods, unless one schedule holds for
    both phases. (By itself --lr would lower the rate of the fine-tuning too.)"""
    if not {"lr", "optimizer"} & protocol.own.get(method, {}).keys() or not kind_of(method).regularises:
        return {}
    common, own = filled(protocol, method, {}), filled(protocol, method, protocol.own[method])
    if own.continues:
        return {}
    return {"finetune_lr": common.finetune_lr, "finetune_optimizer": common.optimizer_of("finetune")}


def filled(protocol: Protocol, method: str, own: Mapping[str, Any]) -> Settings:
    """What a run of the method fills in, whatever its network, budget and seed."""
    lengths = {"epochs": protocol.epochs, "finetune_epochs": protocol.finetune_epochs}
    return new_settings("prune", {**protocol.shared, **own, "method": method, **lengths, "dense": "."})


def parse_methods(text: str) -> tuple[str, ...]:
    """ "spr,magnitude" -> their names; InputError for one that is unknown, given twice, or prunes nothing."""
    names = tuple(word.strip() for word in text.split(","))
    for name in names:
        if not kind_of(name).prunes:
            raise InputError(f"method {name} prunes nothing, so there is no budget to compare it at; leave it out")
    return _once("--methods", text, names)


def parse_budgets(text: str) -> tuple[str, ...]:
    """ "macs=0.5,0.3" -> ("macs=0.5", "macs=0.3"): a number alone is of the kind before it."""
    budgets, kind = [], ""
    for word in (word.strip() for word in text.split(",")):
        if "=" in word:
            kind = word.partition("=")[0].strip()
        budget = parse_budget(word if "=" in word else f"{kind}={word}")
        budgets.append(f"{budget.kind}={budget.share:g}")
    return _once("--budget", text, tuple(budgets))


def default_epochs(
    data: str, epochs: int | None, finetune_epochs: int | None, dense_epochs: int | None
) -> dict[str, int]:
    """E, F and D; left out: the data set's recipe; F where only E is given: as many."""
    if data not in RECIPES:
        raise InputError(f"unknown data {data!r}; choose one of {', '.join(RECIPES)}")
    recipe = RECIPES[data]
    after = recipe.finetune_epochs if epochs is None else epochs
    return {
        "epochs": recipe.epochs if epochs is None else epochs,
        "finetune_epochs": after if finetune_epochs is None else finetune_epochs,
        "dense_epochs": recipe.epochs if dense_epochs is None else dense_epochs,
    }


def kind_of(name: str) -> type[Method]:
    """The method of that name; InputError where there is none."""
    found = next((kind for kind in METHODS if kind.name == name), None)
    if found is None:
        names = ", ".join(kind.name for kind in METHODS if kind.prunes)
        raise InputError(f"unknown method {name!r}; choose one of {names}")
    return found


def _once(flag: str, text: str, values: Sequence[str]) -> tuple[str, ...]:
    if len(set(values)) < len(values):
        raise InputError(f"{flag} {text} names one twice; give each once")
    return tuple(values)
