"""Everything a run was asked to do, checked before any work starts, and how it is written to and read from config.json.

What is left out is filled in by the data set's recipe. CIFAR: the SPR authors' optimizer (SGD, momentum .9, weight
decay 5e-4, lr .1, batch 128); a cosine over each phase stands for their steps. The default strength keeps their
total shrinkage, sum over steps of lr * strength (.5 over 300 epochs), whatever the number of epochs.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, final

from nets.budget import Budget, parse_budget
from nets.resnet import ALL as NETS
from perspective.errors import InputError

MOMENTUM = 0.9


@final
@dataclass(frozen=True)
class Recipe:
    """Defaults of one data set.

    shrinkage  sum over the regularised steps of lr * strength
    threads    of torch on the CPU; None: as many as torch takes. For 8x8 images a second thread costs more than it gives
    """

    epochs: int
    finetune_epochs: int
    batch_size: int
    alpha: float
    shrinkage: float
    threads: int | None = None


RECIPES = {
    "digits": Recipe(epochs=30, finetune_epochs=15, batch_size=64, alpha=0.3, shrinkage=2500.0, threads=1),
    "cifar10": Recipe(epochs=300, finetune_epochs=200, batch_size=128, alpha=0.01, shrinkage=2250.0),
    "cifar100": Recipe(epochs=300, finetune_epochs=200, batch_size=64, alpha=0.01, shrinkage=4500.0),
}


@final
@dataclass(frozen=True)
class Settings:
    """One run. command: "train" regularises from a random initialisation, "prune" from the trained weights.

    dense     run folder of an ordinary training or weights file that stands for the dense phase, or None
    strength  the lambda of the objective; None: from the budget, or else from the recipe's shrinkage
    budget    share of macs, params or channels to keep, or None
    """

    command: Literal["train", "prune"]
    net: str
    data: str
    method: str
    epochs: int
    finetune_epochs: int
    batch_size: int
    alpha: float
    lr: float
    finetune_lr: float
    data_dir: str | None = None
    dense: str | None = None
    strength: float | None = None
    budget: str | None = None
    m_scale: float = 1.0
    weight_decay: float = 5e-4
    width: int = 16
    shortcut: Literal["A", "B"] = "A"
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    device: Literal["cpu", "cuda"] = "cpu"

    def __post_init__(self) -> None:
        positive = {"batch_size": 2, "epochs": 1, "finetune_epochs": 0, "width": 1, "seed": 0}
        for name, least in positive.items():
            if getattr(self, name) < least:
                raise InputError(f"{_flag(name)} is {getattr(self, name)}; it must be at least {least}")
        for name in ("lr", "finetune_lr"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"{_flag(name)} is {getattr(self, name)}; it must be positive and finite")
        if not 0 <= self.weight_decay < float("inf"):
            raise InputError(f"--weight-decay is {self.weight_decay}; it must be a finite number >= 0")
        if self.strength is not None and not 0 <= self.strength < float("inf"):
            raise InputError(f"--strength is {self.strength}; it must be a finite number >= 0")
        for name, choices in (
            ("net", tuple(factory.__name__ for factory in NETS)),
            ("precision", ("float32", "bfloat16")),
            ("device", ("cpu", "cuda")),
            ("shortcut", ("A", "B")),
        ):
            if getattr(self, name) not in choices:
                raise InputError(f"unknown {_flag(name)} {getattr(self, name)!r}; choose one of {', '.join(choices)}")
        if self.budget is not None:
            parse_budget(self.budget)
        if self.command == "prune" and self.dense is None:
            raise InputError("prune needs a trained network: give a run folder, or --weights FILE")

    @property
    def budget_asked(self) -> Budget | None:
        """The budget, parsed."""
        return None if self.budget is None else parse_budget(self.budget)


def new_settings(command: Literal["train", "prune"], given: Mapping[str, Any]) -> Settings:
    """The given settings, the rest from the recipe of the data set; unknown data raise InputError."""
    if given["data"] not in RECIPES:
        raise InputError(f"unknown data {given['data']!r}; choose one of {', '.join(RECIPES)}")
    recipe = RECIPES[given["data"]]
    lr = 0.1 if command == "train" else 0.02
    filled = {
        "epochs": recipe.epochs,
        "finetune_epochs": recipe.finetune_epochs,
        "batch_size": recipe.batch_size,
        "alpha": recipe.alpha,
        "lr": lr,
        "finetune_lr": min(0.02, given.get("lr", lr)),
        **given,
    }
    return Settings(command=command, **filled)


def same_settings(command: str, given: Mapping[str, Any], config: Mapping[str, Any], run: Path) -> Settings:
    """The settings of the run to be resumed; a flag that now says something else raises InputError."""
    names = {field.name for field in fields(Settings)}
    try:
        settings = Settings(**{name: value for name, value in config.items() if name in names})
    except TypeError as error:
        raise InputError(
            f"{run / 'config.json'} does not hold the settings of a run; start the run again in another folder"
        ) from error
    asked = {"command": command, **given}
    changed = [name for name, value in asked.items() if value != getattr(settings, name)]
    if changed:
        name = changed[0]
        raise InputError(
            f"{run} was started with {_flag(name)} {getattr(settings, name)}, not {asked[name]}; "
            "leave the flag out to resume, or start another run in another folder"
        )
    return settings


def as_json(settings: Settings) -> dict[str, Any]:
    """The settings as config.json holds them."""
    return asdict(settings)


def _flag(name: str) -> str:
    return "the command" if name == "command" else "--" + name.replace("_", "-")
