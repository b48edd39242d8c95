"""Every method prunes a trained network to its budget, and stopped in the middle of its phase it goes on to the same bits."""

import json
import shutil

import pytest
import torch
from small_image_folder import write_image_folder

import nets.training.regularise
import nets.training.result
from nets.checkpoint import newest, read_checkpoint
from nets.data import load_data
from nets.datasets.batches import steps_per_epoch
from nets.saving import load
from nets.settings import new_settings, same_settings
from nets.train import train
from nets.training.run_folder import read_json
from nets.training.schedule import Schedule
from perspective import InputError

NET = {
    "net": "vgg16_bn",
    "data": "digits",
    "width": 4,
}  # whose every channel can be removed: a budget is found in few looks
DENSE = {**NET, "method": "none", "epochs": 1, "finetune_epochs": 0}
SHORT = {**NET, "batch_size": 256, "epochs": 3, "finetune_epochs": 0}
WITH_STATE = ("greg2", "chipnet", "sap")
WITHOUT = (
    "greg1",
    "bn-scale",
    "spr-subgradient",
)  # greg1 shares its state with greg2, the others have none of their own


@pytest.fixture(autouse=True, scope="module")
def no_report():
    """Its pictures would take half of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nets.training.result, "write_report", lambda out: None)
        yield


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    out = tmp_path_factory.mktemp("dense") / "run"
    train(new_settings("train", DENSE), out)
    return str(out)


def prune(dense, out, method, **more):
    return train(
        new_settings("prune", {**SHORT, "dense": dense, "method": method, "budget": "channels=0.5", **more}), out
    )


def lines(out):
    parsed = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in parsed]


@pytest.mark.parametrize("method", WITH_STATE)
def test_stopped_and_resumed_is_undisturbed(method, dense, tmp_path):
    whole = prune(dense, tmp_path / "whole", method)
    assert 0.49 < whole["budget"]["reached"] <= 0.5
    assert whole["equality"]["max_abs_logit_difference"] <= 1e-4
    for epoch in (2, 3):  # what a kill in the third epoch leaves (a line too many, too), and one behind it
        out = tmp_path / f"stopped {epoch}"
        shutil.copytree(tmp_path / "whole", out, ignore=shutil.ignore_patterns("model", "result.json", "masks.json"))
        if epoch == 2:
            shutil.rmtree(newest(out / "checkpoint"))
        assert read_checkpoint(out / "checkpoint")[0].epoch == epoch
        again = train(same_settings("prune", {}, read_json(out / "config.json"), out), out, resume=True)
        first, second = load(tmp_path / "whole" / "model").state_dict(), load(out / "model").state_dict()
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert lines(tmp_path / "whole") == lines(out)
        assert (tmp_path / "whole" / "masks.json").read_text() == (out / "masks.json").read_text()
        for part in ("pruned", "layers", "strength", "zeroed_by_budget"):
            assert again[part] == whole[part]


@pytest.mark.parametrize("method", WITHOUT)
def test_the_others_meet_theirs_and_a_resumed_one_does_not_choose_again(method, dense, tmp_path, monkeypatch):
    """A latency would be measured anew and might say something else: what a phase began with is the run's."""
    result = prune(dense, tmp_path / "run", method, epochs=2)
    assert 0.49 < result["budget"]["reached"] <= 0.5
    assert (result["strength"] is None) == (method == "greg1")
    (tmp_path / "run" / "result.json").unlink()
    shutil.rmtree(newest(tmp_path / "run" / "checkpoint"))

    def measured_anew(*_):
        raise AssertionError("the budget was asked again when the phase was taken up")

    monkeypatch.setattr(nets.training.regularise, "taken_by_budget", measured_anew)
    shutil.copytree(tmp_path / "run" / "model", tmp_path / "first")
    shutil.rmtree(tmp_path / "run" / "model")
    settings = same_settings("prune", {}, read_json(tmp_path / "run" / "config.json"), tmp_path / "run")
    again = train(settings, tmp_path / "run", resume=True)
    first, second = load(tmp_path / "first").state_dict(), load(tmp_path / "run" / "model").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert again["strength"] == result["strength"]


@pytest.mark.parametrize("more", [{"strength": 0.5}, {"growth": "linear"}, {"growth": "budget"}])
def test_a_strength_that_would_do_nothing_is_refused(more, dense, tmp_path):
    for method in ("magnitude", "random", "lq", "layerwise", "sap", "greg1", "greg2", "chipnet"):
        with pytest.raises(InputError, match=f"method {method} has no penalty .* leave --{next(iter(more))} out"):
            prune(dense, tmp_path / "run", method, **more)
    assert not (tmp_path / "run").exists()


def test_a_method_that_changes_its_steps_is_not_captured(dense, tmp_path):
    more = {"device": "cuda", "capture": True, "implementation": "fused"}
    for method in (*WITH_STATE, *WITHOUT):
        with pytest.raises(InputError, match=f"method {method} changes its steps .* leave --capture out"):
            prune(dense, tmp_path / "run", method, **more)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("method", "budget"), [("lq", "volume=0.6"), ("random", "params=0.4")])
def test_methods_without_a_phase_meet_every_kind_of_budget(method, budget, dense, tmp_path):
    result = prune(dense, tmp_path / "run", method, budget=budget)
    asked = float(budget.partition("=")[2])
    assert asked - 0.03 < result["budget"]["reached"] <= asked
    if method == "lq":
        for form in ("filters", "neurons"):
            assert 0 < result["findings"][form]["measured"] <= result["findings"][form]["bound"]


@pytest.mark.parametrize(("method", "epochs"), [("spr", (2, 2)), ("magnitude", (2, 4))])
def test_one_schedule_goes_over_both_phases(method, epochs, dense, tmp_path):
    out, more = tmp_path / "run", {"lr": 0.04, "finetune_lr": 0.01, "finetune_schedule": "continue"}
    prune(dense, out, method, epochs=epochs[0], finetune_epochs=epochs[1], **more)
    told = [line["lr"] for line in lines(out)]
    steps = steps_per_epoch(load_data("digits", None), SHORT["batch_size"])
    assert told == pytest.approx([Schedule(0.04).rate(e * steps - 1, 4 * steps) for e in range(1, 5)])


def test_one_schedule_removes_channels_as_soon_as_all_of_them_are_zero(dense, tmp_path):
    """The ramp is three fifths of the phase, and what outlives it dies when the next epoch begins: 4 epochs of 5 at most. What is
    left of them trains the smaller network."""
    more = {"epochs": 5, "finetune_epochs": 1, "budget": "macs=0.5"}
    once = prune(dense, tmp_path / "once", "spr", finetune_schedule="continue", **more)
    told = lines(tmp_path / "once")
    left = [line["macs_left"] for line in told if line["phase"] == "regularise"]
    assert len(told) == 6
    assert 3 <= len(left) <= 4
    assert left[-1] <= 0.5 < left[-2]
    assert once["zeroed_by_budget"] == 0
    apart = prune(dense, tmp_path / "apart", "spr", **more)
    assert [line["phase"] for line in lines(tmp_path / "apart")] == ["regularise"] * 5 + ["finetune"]
    assert once["layers"] == apart["layers"]


def test_masks_of_one_run_give_the_same_shape_in_another(dense, tmp_path):
    first = prune(dense, tmp_path / "first", "magnitude", norm="l1")
    given = {**SHORT, "dense": dense, "method": "masks", "masks": str(tmp_path / "first" / "masks.json"), "seed": 5}
    second = train(new_settings("prune", given), tmp_path / "second")
    assert second["layers"] == first["layers"]
    assert second["pruned"]["macs"] == first["pruned"]["macs"]


def test_masks_of_grey_digits_prune_a_network_of_three_classes_of_colour_images(dense, tmp_path):
    first = prune(dense, tmp_path / "first", "chipnet")
    write_image_folder(tmp_path / "images")
    given = {**NET, "data": "imagefolder", "data_dir": str(tmp_path / "images"), "image_size": 32, "batch_size": 18}
    train(new_settings("train", {**given, "method": "none", "epochs": 1}), tmp_path / "other")
    transferred = {"dense": str(tmp_path / "other"), "method": "masks", "masks": str(tmp_path / "first" / "masks.json")}
    second = train(new_settings("prune", {**given, **transferred, "finetune_epochs": 1}), tmp_path / "second")
    assert second["layers"] == first["layers"]
    assert (tmp_path / "second" / "masks.json").read_text() == (tmp_path / "first" / "masks.json").read_text()
    classes = [
        load(tmp_path / run / "model")(torch.zeros(1, k, 32, 32)).shape[1] for run, k in (("first", 1), ("second", 3))
    ]
    assert classes == [10, 3]


def test_a_method_that_makes_no_zeros_asks_for_a_budget(dense, tmp_path):
    for method in (*WITH_STATE, *WITHOUT, "lq", "random"):
        with pytest.raises(InputError, match="add --budget"):
            prune(dense, tmp_path / method, method, budget=None)
    with pytest.raises(InputError, match="leave --growth out"):
        prune(dense, tmp_path / "grown", "greg1", growth="budget")


def test_what_does_not_fit_is_refused_before_any_training(dense, tmp_path):
    for more, said in (
        ({"method": "masks", "masks": str(tmp_path / "none.json"), "budget": None}, "holds no masks"),
        ({"method": "chipnet", "budget": "latency=0.5"}, "no formula for a budget of latency"),
        ({"method": "chipnet", "coupled": True, "net": "resnet20", "shortcut": "B"}, "leave --coupled out"),
    ):
        with pytest.raises(InputError, match=said):
            train(new_settings("train", {**SHORT, "budget": "macs=0.5", **more}), tmp_path / "refused")
        assert not (tmp_path / "refused").exists()
