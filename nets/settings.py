"""Everything a run was asked to do, checked before any work starts, and how it is written to and read from config.json.

What is left out is filled in by the data set's recipe. CIFAR: the SPR authors' optimizer (SGD, momentum .9, weight
decay 5e-4, lr .1, batch 128); a cosine over each phase stands for their steps. The default strength keeps their
total shrinkage, sum over steps of lr * strength (.5 over 300 epochs), whatever the number of epochs.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, final

from nets.gauge import Budget, parse_budget
from nets.limits import Limits, parse_patterns
from nets.networks import ALL as NETS
from nets.recipes import recipe_settings, scaled
from nets.training.schedule import Schedule, parse_schedule
from perspective.errors import InputError


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
    weight_decay: float = 5e-4
    threads: int | None = None


RECIPES = {
    "digits": Recipe(epochs=30, finetune_epochs=15, batch_size=64, alpha=0.3, shrinkage=2500.0, threads=1),
    "cifar10": Recipe(epochs=300, finetune_epochs=200, batch_size=128, alpha=0.01, shrinkage=2250.0),
    "cifar100": Recipe(epochs=300, finetune_epochs=200, batch_size=64, alpha=0.01, shrinkage=4500.0),
    "imagefolder": Recipe(
        epochs=150, finetune_epochs=50, batch_size=256, alpha=0.5, shrinkage=19460.0, weight_decay=1e-4
    ),
}

CHOICES: dict[str, tuple[str, ...]] = {
    "net": tuple(factory.__name__ for factory in NETS),
    "precision": ("float32", "bfloat16"),
    "device": ("cpu", "cuda"),
    "shortcut": ("A", "B"),
    "optimizer": ("sgd", "nesterov", "adamw"),
    "finetune_optimizer": ("sgd", "nesterov", "adamw"),
    "growth": ("constant", "linear", "budget"),
    "allocation": ("even", "price", "error"),
    "norm": ("l1", "l2"),
    "implementation": ("loop", "flat", "fused", "fused_step"),
    "batch_norm": ("torch", "fused"),
}
AT_LEAST = {
    **{"batch_size": 2, "epochs": 1, "finetune_epochs": 0, "width": 1, "seed": 0, "accumulate": 1, "cutout": 0},
    **{"round_to": 1, "bn_batches": 0, "image_size": 8, "workers": 0, "calibration": 1},
}
SHARES = ("momentum", "label_smoothing", "ema", "distill", "warmup")  # [0, 1)


@final
@dataclass(frozen=True)
class Settings:
    """One run. command: "train" regularises from a random initialisation, "prune" from the trained weights.

    dense       run folder of an ordinary training or weights file that stands for the dense phase, or None
    strength    the lambda of the objective; None: from the budget, or else from the recipe's shrinkage
    growth      of lambda over the regularised phase: constant, linear from 0 to twice, or as the budget asks (budget)
    budget      share of macs, params, channels, volume or latency to keep, or None
    implementation  of the prox: nets/optimizer.py; the same numbers to rounding, so a resumed run keeps its own. Where it is
                left out, new_settings takes fused on the CPU, and on a GPU flat, until the Triton kernel has been timed there
    batch_norm  of training steps: torch's operations, or with the ReLU behind it in fused loops on the CPU (nets/norm_relu.py).
                Where it is left out, new_settings takes fused for bfloat16 on the CPU; a run of before the field keeps torch
    allocation  of a budget over the layers: even (the same share of each), price (by each channel's own score), error (by how far
                the dense network's answers move, nets/training/sensitivity.py), or the method's
    coupled     groups over additions, depthwise and grouped convolutions and concatenations
    round_to    channels of a pruned layer are a multiple of it; floor: share of its channels a layer keeps at least
    exclude     comma separated patterns of layer names that are left whole
    schedule    of the rate in each phase (training/schedule.py); finetune_schedule, finetune_optimizer: None for the same;
                finetune_schedule "continue": one curve from lr over the regularised phase and the fine-tuning
    warmup      share of a phase in which the rate rises; clip: largest gradient norm or None
    accumulate  parts a batch is computed in; ema: decay of the averaged weights (dense and fine-tuning), 0 = off
    capture     whole training steps as CUDA graphs (nets/training/captured.py)
    distill     share of the loss taken by the dense network's answers, in the phases after the dense one
    norm        magnitude: of a channel, l1 or l2; masks: file of another run's channels, for method masks
    calibration, layer_seconds  of method layerwise: training images, and the exact solver's limit for each layer
    bn_batches  training batches that measure batch normalisation again after removal; None: 50 without fine-tuning
    recipe, scale_epochs  the paper's recipe that filled in what was not given, and the factor on its epochs (both done by
                `new_settings`: epochs, strength and all the rest stand here as they are used)
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
    growth: Literal["constant", "linear", "budget"] | None = None
    budget: str | None = None
    allocation: Literal["even", "price", "error"] | None = None
    implementation: Literal["loop", "flat", "fused", "fused_step"] = "flat"
    batch_norm: Literal["torch", "fused"] = "torch"
    coupled: bool = False
    round_to: int = 1
    floor: float = 0.15
    exclude: str | None = None
    m_scale: float = 1.0
    optimizer: Literal["sgd", "nesterov", "adamw"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    finetune_schedule: str | None = None
    finetune_optimizer: Literal["sgd", "nesterov", "adamw"] | None = None
    warmup: float = 0.0
    label_smoothing: float = 0.0
    clip: float | None = None
    accumulate: int = 1
    ema: float = 0.0
    distill: float = 0.0
    cutout: int = 0
    calibration: int = 2000
    layer_seconds: float = 30.0
    norm: Literal["l1", "l2"] = "l2"
    masks: str | None = None
    bn_batches: int | None = None
    width: int | None = None
    shortcut: Literal["A", "B"] | None = None
    image_size: int | None = None
    workers: int | None = None
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    device: Literal["cpu", "cuda"] = "cpu"
    capture: bool = False
    tensorboard: bool = False
    recipe: str | None = None
    scale_epochs: float = 1.0

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in (*choices, *([None] if name in _OPTIONAL else [])):
                raise InputError(f"unknown {flag(name)} {getattr(self, name)!r}; choose one of {', '.join(choices)}")
        for name, least in AT_LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{flag(name)} is {value}; it must be at least {least}")
        for name in ("lr", "finetune_lr", "clip", "layer_seconds", "scale_epochs"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{flag(name)} is {value}; it must be positive and finite")
        for name in SHARES:
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{flag(name)} is {getattr(self, name)}; it must be at least 0 and less than 1")
        for phase in ("regularise", "finetune"):
            self.rates(self.lr, phase)
        for name in ("weight_decay", "strength"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise InputError(f"{flag(name)} is {value}; it must be a finite number >= 0")
        if self.accumulate * 2 > self.batch_size:
            raise InputError(
                f"--accumulate {self.accumulate} leaves less than two images a part; raise --batch-size {self.batch_size}"
            )
        if self.batch_norm == "fused" and self.device != "cpu":
            raise InputError(f"--batch-norm fused is for the CPU; leave it out with --device {self.device}")
        if self.capture:
            self._refuse_capture()
        if self.budget is not None:
            parse_budget(self.budget)
        elif self.growth == "budget":
            raise InputError("--growth budget follows a budget; add one, for example --budget macs=0.5")
        if self.growth == "budget" and self.strength is not None:
            raise InputError("--growth budget chooses the strength; leave --strength out")
        if self.command == "prune" and self.dense is None:
            raise InputError("prune needs a trained network: give a run folder, or --weights FILE")

    def _refuse_capture(self) -> None:
        if self.device != "cuda":
            raise InputError("--capture makes CUDA graphs; add --device cuda, or leave it out")
        if self.implementation not in ("fused", "fused_step"):
            raise InputError(
                f"--capture needs --implementation fused or fused_step; {self.implementation} looks at the device"
            )
        for name, absent in (("accumulate", 1), ("ema", 0.0), ("clip", None)):
            if getattr(self, name) != absent:
                raise InputError(f"--capture takes no {flag(name)}; leave one of them out")

    @property
    def budget_asked(self) -> Budget | None:
        """The budget, parsed."""
        return None if self.budget is None else parse_budget(self.budget)

    @property
    def limits(self) -> Limits:
        """What a budget may not touch."""
        return Limits(self.floor, self.round_to, parse_patterns(self.exclude))

    @property
    def continues(self) -> bool:
        """Do the regularised phase and the fine-tuning share one schedule?"""
        return self.finetune_schedule == "continue"

    @property
    def lr_after_removal(self) -> float:
        """First learning rate of the fine-tuning; in a shared schedule the rate at which that begins."""
        return self.lr if self.continues else self.finetune_lr

    def rates(self, lr: float, phase: str = "regularise", done: int = 0) -> Schedule:
        """The schedule of a phase that starts with `lr`. done: epochs of the regularised phase, which a fine-tuning that
        shares its schedule goes on behind."""
        own = self.finetune_schedule if phase == "finetune" and not self.continues else None
        said, whole = "--finetune-schedule" if own else "--schedule", self.epochs + self.finetune_epochs
        schedule = parse_schedule(own or self.schedule, lr, self.warmup, said)
        if self.continues and phase == "regularise":
            return replace(schedule, ends=self.epochs / whole)
        if self.continues and phase == "finetune" and done < whole:
            return replace(schedule, begins=done / whole)
        return schedule

    def optimizer_of(self, phase: str) -> str:
        """The optimizer's name in a phase."""
        return (self.finetune_optimizer if phase == "finetune" else None) or self.optimizer


_OPTIONAL = ("shortcut", "growth", "allocation", "finetune_optimizer")


def new_settings(command: Literal["train", "prune"], given: Mapping[str, Any]) -> Settings:
    """The given settings, the rest from the paper's recipe if one is named, and then from that of the data set, epochs
    scaled; unknown data raise InputError."""
    given = {**recipe_settings(given), **given}
    if given["data"] not in RECIPES:
        raise InputError(f"unknown data {given['data']!r}; choose one of {', '.join(RECIPES)}")
    recipe, scale = RECIPES[given["data"]], given.get("scale_epochs", 1.0)
    lr = (0.1 if command == "train" else 0.02) * (0.01 if given.get("optimizer") == "adamw" else 1)
    filled = {
        "epochs": scaled(recipe.epochs, scale),
        "finetune_epochs": 0 if given["method"] == "layerwise" else scaled(recipe.finetune_epochs, scale),
        "batch_size": recipe.batch_size,
        "implementation": "fused" if given.get("device", "cpu") == "cpu" else "flat",
        "batch_norm": "fused" if _reduced_on_cpu(given) else "torch",
        "alpha": recipe.alpha,
        "weight_decay": recipe.weight_decay,
        "lr": lr,
        "finetune_lr": min(lr, 0.02, given.get("lr", lr)),
        **given,
    }
    return Settings(command=command, **filled)


def _reduced_on_cpu(given: Mapping[str, Any]) -> bool:
    return given.get("device", "cpu") == "cpu" and given.get("precision") == "bfloat16"


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
            f"{run} was started with {flag(name)} {getattr(settings, name)}, not {asked[name]}; "
            "leave the flag out to resume, or start another run in another folder"
        )
    return settings


def as_json(settings: Settings) -> dict[str, Any]:
    """The settings as config.json holds them."""
    return asdict(settings)


def flag(name: str) -> str:
    """How a setting is written on the command line."""
    return "the command" if name == "command" else "--" + name.replace("_", "-")


def as_words(name: str, value: Any) -> list[str]:
    """The setting on the command line; a flag without a value stands for True, and False is not said."""
    if value is False:
        return []
    return [flag(name)] if value is True else [flag(name), str(value)]
