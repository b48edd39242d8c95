"""Law: a recipe is the published numbers, scaled in proportion where asked; what is given by hand wins; the run says so."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nets.budget import check_reachable
from nets.commands.train import summary
from nets.gauge import Gauge
from nets.groups import channel_groups
from nets.limits import select
from nets.methods.growing_schedule import scaled_growth
from nets.methods.phase_plan import PhasePlan
from nets.networks import build
from nets.recipes import ALL, describe_recipe, scaled
from nets.settings import as_json, new_settings, same_settings
from nets.train import train
from nets.training.phase import plain_optimizer
from nets.training.schedule import parse_schedule
from perspective import InputError

PUBLISHED = {  # written down from the authors' code and logs, not from the recipes
    "spr-cifar": {
        **{"method": "spr", "net": "resnet20", "data": "cifar10", "epochs": 300, "finetune_epochs": 200, "lr": 0.1},
        **{
            "batch_size": 128,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "optimizer": "sgd",
            "strength": 0.5,
            "alpha": 0.01,
        },
    },
    "greg2-resnet56": {
        **{
            "method": "greg2",
            "net": "resnet56",
            "data": "cifar10",
            "finetune_epochs": 120,
            "lr": 1e-3,
            "batch_size": 128,
        },
        **{"finetune_lr": 1e-2, "momentum": 0.9, "weight_decay": 5e-4, "optimizer": "sgd", "budget": "macs=0.392"},
    },
    "chipnet-cifar": {
        **{"method": "chipnet", "data": "cifar10", "epochs": 20, "finetune_epochs": 300, "lr": 1e-3, "batch_size": 32},
        **{"finetune_lr": 0.05, "weight_decay": 1e-3, "optimizer": "adamw", "finetune_optimizer": "sgd"},
        **{"budget": "volume=0.125"},
    },
}


def settings_of(recipe, **given):
    dense = {"dense": "weights.th"} if recipe.command == "prune" else {}
    return new_settings(recipe.command, {"recipe": recipe.name, **dense, **given})


def rate(recipe, epoch, **given):
    """The learning rate in epoch 0, 1, ... after the dense network, counted through both phases."""
    found = settings_of(recipe, **given)
    if epoch < found.epochs:
        return found.rates(found.lr, "regularise").rate(epoch, found.epochs)
    return found.rates(found.finetune_lr, "finetune").rate(epoch - found.epochs, found.finetune_epochs)


@pytest.mark.parametrize("recipe", ALL, ids=lambda recipe: recipe.name)
def test_a_recipe_is_what_was_published(recipe):
    found = as_json(settings_of(recipe))
    assert {name: found[name] for name in PUBLISHED[recipe.name]} == PUBLISHED[recipe.name]
    told = describe_recipe(found)
    assert (told["changed"], told["told"], told["scale_epochs"]) == ({}, [], 1.0)
    assert any(sentence.startswith("[C]") for sentence in told["sources"])
    assert any(sentence.startswith("[?]") for sentence in told["unknown"])


def test_the_rates_fall_at_the_published_epochs():
    """By hand: SPR x 0.1 at 100, 250, 350, 400, 450 of 500; GReg at 60 and 90 of its last 120; ChipNet x 0.5 every 30."""
    spr, greg, chipnet = ALL
    for epoch in range(500):
        falls = sum(epoch >= at for at in (100, 250, 350, 400, 450))
        assert rate(spr, epoch) == pytest.approx(0.1 * 0.1**falls, rel=1e-9)
    for epoch in range(341 + 120):
        after = epoch - 341
        assert rate(greg, epoch) == pytest.approx(1e-3 if after < 0 else 1e-2 * 0.1 ** ((after >= 60) + (after >= 90)))
    for epoch in range(320):
        assert rate(chipnet, epoch) == pytest.approx(1e-3 if epoch < 20 else 0.05 * 0.5 ** ((epoch - 20) // 30))


def test_greg_grows_at_the_published_increments():
    """10 steps apart, 1e-5 and then 1e-4 more: to the one epoch that a phase must be whole."""
    found, model = settings_of(ALL[1]), torch.nn.Conv2d(1, 1, 1)
    schedule = found.rates(found.lr, "regularise")
    plan = PhasePlan(model, None, found.epochs, math.ceil(45_000 / found.batch_size), schedule, None, dict)
    growth = scaled_growth(plan, found.momentum, picks=True)
    assert (growth.every, growth.ceiling, growth.pick_ceiling) == (10, 1.0, 1e-2)
    assert growth.pick_step == pytest.approx(1e-5, rel=2e-3)
    assert growth.step == pytest.approx(1e-4, rel=0.011)  # as many updates as from 0 to 1, here from 1e-2


def test_greg_lasts_as_long_as_its_penalties_grow_and_are_held():
    picking, growing, holding = 10 * 1e-2 / 1e-5, 10 * (1 - 1e-2) / 1e-4, 10_000
    steps = math.ceil(45_000 / 128)  # 5,000 of the training images are kept for validation
    assert (picking + growing + holding) / steps <= ALL[1].epochs < (picking + growing + holding) / steps + 3
    assert 1 / 2.56 < float(ALL[1].budget.partition("=")[2]) <= 1 / 2.55


@given(scale=st.floats(0.005, 2.0), k=st.integers(0, len(ALL) - 1))
@settings(max_examples=60, deadline=None)
def test_all_phases_scale_in_proportion_and_the_shrinkage_stays(scale, k):
    recipe = ALL[k]
    found = settings_of(recipe, scale_epochs=scale)
    for name in ("epochs", "finetune_epochs"):
        whole = getattr(recipe, name)
        assert abs(getattr(found, name) - scale * whole) <= 0.5 or (getattr(found, name) == 1 and scale * whole < 1)
    for part in (
        0.0,
        0.3,
        0.6,
        0.95,
    ):  # the rate at a share of a phase is that of the whole recipe, but for the rounding
        a, b = found.rates(found.lr), settings_of(recipe).rates(recipe.lr)
        assert a.rate(int(part * 10_000), 10_000) == b.rate(int(part * 10_000), 10_000)
    if recipe.strength is not None:
        assert found.strength * found.epochs == pytest.approx(recipe.strength * recipe.epochs)
    told = describe_recipe(as_json(found))
    assert told["scale_epochs"] == scale
    if (found.epochs, found.finetune_epochs) != (recipe.epochs, recipe.finetune_epochs):
        assert f"{found.epochs} + {found.finetune_epochs} epochs instead of" in " ".join(told["told"])


def test_what_is_given_by_hand_wins():
    given = {"epochs": 7, "lr": 0.3, "net": "resnet32", "budget": "params=0.4", "finetune_schedule": "cosine"}
    found = settings_of(ALL[0], scale_epochs=0.1, **given)
    assert {name: getattr(found, name) for name in given} == given
    assert found.finetune_epochs == 20
    assert found.strength == pytest.approx(0.5 * 300 / 7)  # follows the epochs, given by hand or not
    assert settings_of(ALL[0], epochs=7, strength=0.25).strength == 0.25
    told = describe_recipe(as_json(found))
    assert told["changed"]["net"] == {"published": "resnet20", "used": "resnet32"}
    assert "lr 0.3" in told["told"][-1]
    assert "perspective train, this run was perspective prune" in " ".join(
        describe_recipe(as_json(new_settings("prune", {"recipe": "spr-cifar", "dense": "w"})))["told"]
    )


def test_epochs_scale_without_a_recipe_too():
    given = {"net": "resnet20", "data": "digits", "method": "spr"}
    found = new_settings("train", {**given, "scale_epochs": 0.1, "finetune_epochs": 9})
    assert (found.epochs, found.finetune_epochs) == (3, 9)
    assert "0.1 times their default" in describe_recipe(as_json(found))["told"][0]
    assert describe_recipe(as_json(new_settings("train", given))) is None


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"recipe": "spr"}, "unknown --recipe 'spr'; choose one of spr-cifar"),
        ({"scale_epochs": 0.0}, "--scale-epochs is 0.0"),
        ({"scale_epochs": float("nan")}, "--scale-epochs is nan"),
        ({"schedule": "steps=0.5/0.4"}, "rising shares"),
        ({"schedule": "steps=0.5/1.0"}, "rising shares"),
        ({"schedule": "steps=0.5:1.5"}, "between 0 and 1"),
        ({"schedule": "steps=a"}, "steps=SHARE/SHARE"),
        ({"schedule": "cosine=0.5"}, "unknown --schedule"),
        (
            {"finetune_schedule": "linear"},
            "unknown --finetune-schedule 'linear'; choose one of cosine, constant, steps, continue",
        ),
        ({"schedule": "continue"}, "unknown --schedule 'continue'"),
        ({"finetune_optimizer": "adam"}, "unknown --finetune-optimizer"),
    ],
)
def test_bad_recipes_and_schedules_are_one_sentence(given, sentence):
    with pytest.raises(InputError, match=sentence):
        new_settings("train", {"net": "resnet20", "data": "digits", "method": "spr", **given})


def test_a_schedule_in_words_is_its_steps():
    found = parse_schedule("steps=0.25/0.5:0.2", 1.0)
    assert [found.rate(k, 8) for k in range(8)] == pytest.approx([1, 1, 0.2, 0.2, 0.04, 0.04, 0.04, 0.04])
    assert parse_schedule("steps", 1.0).steps_at == (0.5, 0.75, 0.9)
    assert scaled(0, 0.1) == 0


def test_each_phase_has_its_optimizer():
    found = settings_of(ALL[2])
    model = torch.nn.Linear(2, 2)
    assert isinstance(plain_optimizer(model, found, 0.1, "regularise"), torch.optim.AdamW)
    assert isinstance(plain_optimizer(model, found, 0.1, "finetune"), torch.optim.SGD)


@pytest.mark.parametrize("recipe", [recipe for recipe in ALL if recipe.budget], ids=lambda recipe: recipe.name)
def test_a_recipes_budget_is_within_reach_of_its_network(recipe):
    found, example = settings_of(recipe), torch.randn(2, 3, 32, 32)
    model = build(found.net, 10, 3)
    groups = select(channel_groups(model, example, found.coupled), found.limits)
    check_reachable(model, groups, Gauge(found.budget_asked, model, example), found.limits)


def test_a_run_says_what_it_made_of_its_recipe(tmp_path):
    small = {"net": "resnet20", "data": "digits", "width": 3, "batch_size": 512}
    found = new_settings("train", {"recipe": "spr-cifar", "scale_epochs": 0.005, **small})
    assert (found.epochs, found.finetune_epochs, found.strength) == (2, 1, 75.0)
    result = train(found, tmp_path / "run")
    assert result == json.loads((tmp_path / "run" / "result.json").read_text())
    told = result["recipe"]
    assert (told["name"], told["scale_epochs"]) == ("spr-cifar", 0.005)
    assert "2 + 1 epochs instead of the published 300 + 200" in told["told"]
    assert told["changed"]["data"] == {"published": "cifar10", "used": "digits"}
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["recipe"], config["scale_epochs"], config["epochs"]) == ("spr-cifar", 0.005, 2)
    assert same_settings("train", {"recipe": "spr-cifar"}, config, tmp_path / "run") == found
    assert "spr-cifar: 2 + 1 epochs instead of" in summary(result, tmp_path / "run")
