"""A paper's recipe filled in where nothing was said by hand, its epochs scaled, and what became of it, for result.json.

A published strength belongs to the published number of epochs: what a run can shrink is the sum over its steps of
lr * strength. So a shorter penalised phase takes a strength that is larger in proportion.
"""

import math
from collections.abc import Mapping
from typing import Any

from nets.recipes.chipnet_cifar import CHIPNET_CIFAR
from nets.recipes.greg_resnet56 import GREG2_RESNET56
from nets.recipes.paper import PaperRecipe
from nets.recipes.spr_cifar import SPR_CIFAR
from perspective.errors import InputError

ALL = (SPR_CIFAR, GREG2_RESNET56, CHIPNET_CIFAR)
PHASES = ("epochs", "finetune_epochs")


def choose_recipe(name: str) -> PaperRecipe:
    """The recipe of that name; InputError with the names there are."""
    found = next((recipe for recipe in ALL if recipe.name == name), None)
    if found is None:
        raise InputError(f"unknown --recipe {name!r}; choose one of {', '.join(recipe.name for recipe in ALL)}")
    return found


def scaled(epochs: int, scale: float) -> int:
    """`epochs` times `scale`, rounded; a phase that there was keeps one epoch at least."""
    if not 0 < scale < math.inf:
        raise InputError(f"--scale-epochs is {scale}; it must be positive and finite")
    return max(1, round(epochs * scale)) if epochs else 0


def recipe_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the recipe that `given` names, as the run would use them; {} where it names none."""
    name = given.get("recipe")
    if name is None:
        return {}
    recipe = choose_recipe(name)
    settings = recipe.settings()
    for phase in PHASES:
        settings[phase] = scaled(settings[phase], given.get("scale_epochs", 1.0))
    if recipe.strength is not None:
        settings["strength"] = recipe.strength * recipe.epochs / max(1, given.get("epochs", settings["epochs"]))
    return settings


def describe_recipe(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """What result.json says: published settings, which of them the run changed, and a few sentences; None: no recipe and
    nothing scaled. settings: all of the run's, by name."""
    scale = settings["scale_epochs"]
    if settings["recipe"] is None:
        told = f"all phases that were not given by hand have {scale:g} times their default epochs"
        return None if scale == 1 else {"name": None, "scale_epochs": scale, "told": [told]}
    recipe = choose_recipe(settings["recipe"])
    published = recipe.settings()
    changed = {
        name: {"published": value, "used": settings[name]}
        for name, value in published.items()
        if settings[name] != value
    }
    return {
        "name": recipe.name,
        "paper": recipe.paper,
        "scale_epochs": scale,
        "published": published,
        "changed": changed,
        "told": _sentences(recipe, settings, changed),
        "sources": list(recipe.sources),
        "unknown": list(recipe.unknown),
    }


def _sentences(recipe: PaperRecipe, settings: Mapping[str, Any], changed: Mapping[str, Any]) -> list[str]:
    told = []
    if any(phase in changed for phase in PHASES):
        epochs = " + ".join(str(settings[phase]) for phase in PHASES)
        told.append(f"{epochs} epochs instead of the published {recipe.epochs} + {recipe.finetune_epochs}")
    if "strength" in changed and settings["strength"] is not None:
        told.append(
            f"strength {settings['strength']:g} instead of the published {recipe.strength:g}: its sum over the steps, lr * "
            "strength, decides what is shrunk"
        )
    if settings["command"] != recipe.command:
        told.append(f"the paper's way is perspective {recipe.command}, this run was perspective {settings['command']}")
    others = [name for name in changed if name not in (*PHASES, "strength")]
    if others:
        told.append("by hand, not as published: " + ", ".join(f"{name} {settings[name]}" for name in others))
    return told
