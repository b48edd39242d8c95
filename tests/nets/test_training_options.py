"""Each option of a training does what its name says, against the same step written out by hand."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nets import load
from nets.data import load_data
from nets.datasets.batches import batches, epoch_generator
from nets.settings import new_settings
from nets.train import train
from nets.training.averaging import Average
from nets.training.epoch import TEMPERATURE, Task, train_epoch
from nets.training.phase import plain_optimizer
from nets.training.schedule import Schedule
from perspective import CheckFailed, InputError

GIVEN = {"net": "resnet20", "data": "digits", "method": "spr", "batch_size": 512, "epochs": 1, "lr": 0.05}


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", None)


def network():
    """No batch normalisation: parts of a batch add up exactly."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, bias=True), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)).double()


class Doubled:
    """The data set in float64, so that the hand-written step can be compared to rounding."""

    def __init__(self, data):
        self.data, self.train = data, data.train

    def train_batches(self, batch_size, generator):
        for images, labels in self.data.train_batches(batch_size, generator):
            yield images.double(), labels


def run(digits, model=None, task=None, **options):
    settings = new_settings("train", {**GIVEN, **options})
    model = network() if model is None else model
    optimizer = plain_optimizer(model, settings, settings.lr)
    task = task or Task("dense", 1, settings.rates(settings.lr))
    train_epoch(model, model, optimizer, Doubled(digits), settings, task, 0)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def by_hand(digits, loss=None, clip=None, optimizer=None, schedule=None, after=lambda model: None):
    settings = new_settings("train", GIVEN)
    model = network()
    step = (optimizer or (lambda p: torch.optim.SGD(p, lr=1, momentum=0.9, weight_decay=5e-4)))(model.parameters())
    schedule = schedule or Schedule(0.05)
    for k, (images, labels) in enumerate(batches(digits, 512, epoch_generator(settings.seed, "dense", 0))):
        step.param_groups[0]["lr"] = schedule.rate(k, 3)
        step.zero_grad()
        (loss or F.cross_entropy)(model(images.double()), labels).backward()
        if clip:
            norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
            for p in model.parameters():
                p.grad *= min(1.0, clip / (norm + 1e-6))
        step.step()
        after(model)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_the_plain_step_is_the_textbooks(digits):
    torch.testing.assert_close(run(digits), by_hand(digits), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("parts", [2, 5])
def test_a_batch_in_parts_is_the_whole_batch(digits, parts):
    torch.testing.assert_close(run(digits, accumulate=parts), by_hand(digits), rtol=1e-9, atol=1e-11)


def test_clipping_and_smoothing(digits):
    torch.testing.assert_close(run(digits, clip=0.1), by_hand(digits, clip=0.1), rtol=1e-9, atol=1e-11)

    def smoothed(logits, labels):
        target = 0.8 * F.one_hot(labels, 10).double() + 0.2 / 10
        return -(target * logits.log_softmax(1)).sum(1).mean()

    torch.testing.assert_close(run(digits, label_smoothing=0.2), by_hand(digits, smoothed), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("adamw", lambda p: torch.optim.AdamW(p, lr=1, weight_decay=5e-4)),
        ("nesterov", lambda p: torch.optim.SGD(p, lr=1, momentum=0.9, weight_decay=5e-4, nesterov=True)),
    ],
)
def test_the_optimizer_is_torchs_own(digits, name, make):
    found = run(digits, optimizer=name)  # lr is given: the smaller default of adamw does not enter
    torch.testing.assert_close(found, by_hand(digits, optimizer=make), rtol=1e-10, atol=1e-12)


def test_distilled_answers_enter_the_loss(digits):
    torch.manual_seed(1)
    teacher = copy.deepcopy(network())
    with torch.no_grad():
        for p in teacher.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    seen = {}

    def distilled(logits, labels):
        soft = F.softmax(teacher(seen["images"]) / TEMPERATURE, 1).detach()
        apart = (soft * (soft.log() - F.log_softmax(logits / TEMPERATURE, 1))).sum(1).mean()
        return 0.7 * F.cross_entropy(logits, labels) + 0.3 * TEMPERATURE**2 * apart

    model, settings = network(), new_settings("train", GIVEN)
    step = torch.optim.SGD(model.parameters(), lr=1, momentum=0.9, weight_decay=5e-4)
    for k, (images, labels) in enumerate(batches(digits, 512, epoch_generator(settings.seed, "dense", 0))):
        seen["images"] = images.double()
        step.param_groups[0]["lr"] = Schedule(0.05).rate(k, 3)
        step.zero_grad()
        distilled(model(images.double()), labels).backward()
        step.step()
    expected = torch.cat([p.detach().flatten() for p in model.parameters()])
    task = Task("dense", 1, Schedule(0.05), teacher=teacher)
    torch.testing.assert_close(run(digits, task=task, distill=0.3), expected, rtol=1e-9, atol=1e-11)


def test_the_average_is_exponential(digits):
    model = network()
    average = Average(model, 0.75)
    mean = torch.cat([p.detach().flatten() for p in network().parameters()])

    def enter(seen):
        nonlocal mean
        mean = 0.75 * mean + 0.25 * torch.cat([p.detach().flatten() for p in seen.parameters()])

    by_hand(digits, after=enter)
    run(digits, model=model, task=Task("dense", 1, Schedule(0.05), average=average))
    average.write(model)
    torch.testing.assert_close(
        torch.cat([p.detach().flatten() for p in model.parameters()]), mean, rtol=1e-8, atol=1e-10
    )


def test_a_short_run_with_every_option_is_resumable(tmp_path):
    given = {**GIVEN, "width": 4, "finetune_epochs": 2, "budget": "macs=0.6", "epochs": 3, "ema": 0.9, "distill": 0.5}
    given |= {"warmup": 0.1, "clip": 1.0, "accumulate": 2, "cutout": 2, "label_smoothing": 0.1, "round_to": 2}
    settings = new_settings("train", given)
    whole = train(settings, tmp_path / "whole")
    assert 0.6 * 0.9 < whole["budget"]["reached"] <= 0.6
    assert all(layer["after"] % 2 == 0 for layer in whole["layers"] if layer["after"] < layer["before"])
    calls = []

    def stop_late(parameters, lr):
        calls.append(lr)
        if len(calls) == 3:  # the optimizer of the fine-tuning
            raise KeyboardInterrupt
        return torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=5e-4)

    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "cut", make_optimizer=stop_late)
    again = train(settings, tmp_path / "cut", resume=True)
    assert again["pruned"] == whole["pruned"]
    assert again["budget"] == whole["budget"]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"ema": 1.0}, "ema"),
        ({"accumulate": 400}, "accumulate"),
        ({"growth": "budget"}, "growth budget"),
        ({"growth": "budget", "budget": "macs=0.5", "strength": 1.0}, "leave --strength out"),
        ({"allocation": "best"}, "allocation"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"clip": 0.0}, "clip"),
        ({"floor": 1.0, "budget": "macs=0.5"}, "floor"),
        ({"warmup": 1.0}, "warmup"),
        ({"cutout": 9}, "cutout"),
        ({"exclude": "conv9"}, "fits no layer"),
    ],
)
def test_nonsense_is_one_sentence(bad, words, tmp_path):
    with pytest.raises(InputError, match=words):
        train(new_settings("train", {**GIVEN, **bad}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_without_shortcuts_that_lost_a_layer_is_said(tmp_path):
    given = {**GIVEN, "net": "vgg16_bn", "strength": 1e7, "finetune_epochs": 1}
    with pytest.raises(CheckFailed, match="smaller --strength"):
        train(new_settings("train", given), tmp_path / "run")


def test_layerwise_prunes_without_training_and_resumes(tmp_path):
    dense = {**GIVEN, "method": "none", "width": 4, "epochs": 2}
    train(new_settings("train", dense), tmp_path / "dense")
    given = {"net": "resnet20", "data": "digits", "method": "layerwise", "width": 4, "dense": str(tmp_path / "dense")}
    settings = new_settings("prune", {**given, "budget": "macs=0.8", "calibration": 100, "layer_seconds": 5.0})
    result = train(settings, tmp_path / "run")
    assert 0.7 < result["budget"]["reached"] <= 0.8
    assert settings.finetune_epochs == 0
    assert len(result["choices"]) == 9
    assert all(choice["lower_bound"] <= choice["objective"] for choice in result["choices"] if choice["objective"])
    (tmp_path / "run" / "result.json").unlink()  # as if killed just before the end
    again = train(settings, tmp_path / "run", resume=True)
    assert again["pruned"] == result["pruned"]
    with pytest.raises(InputError, match="add --budget"):
        train(new_settings("prune", given), tmp_path / "other")


def test_the_prox_left_to_itself_is_the_compiled_one_on_the_cpu():
    given = {"net": "resnet20", "data": "digits", "method": "spr"}
    assert new_settings("train", given).implementation == "fused"
    assert new_settings("train", {**given, "device": "cuda"}).implementation == "flat"
    assert new_settings("train", {**given, "implementation": "loop"}).implementation == "loop"


@pytest.mark.parametrize("method", ["magnitude", "lq", "random"])
def test_without_a_penalised_phase_the_trained_network_is_pruned(method, tmp_path):
    given = {**GIVEN, "method": method, "width": 4, "budget": "macs=0.6", "exclude": "conv1", "finetune_epochs": 0}
    train(new_settings("train", given), tmp_path / "run")
    dense, pruned = load(tmp_path / "run" / "dense"), load(tmp_path / "run" / "model")
    assert torch.equal(dense.conv1.weight, pruned.conv1.weight)
    whole, kept = dense.layer1[0].conv1.weight, pruned.layer1[0].conv1.weight
    assert len(kept) < len(whole)
    assert all((whole == row).flatten(1).all(1).any() for row in kept)


def test_torch_is_as_it_was_before_a_training_even_one_that_failed(tmp_path):
    def state():
        deterministic = torch.utils.deterministic
        asked = torch.are_deterministic_algorithms_enabled(), deterministic.fill_uninitialized_memory
        return *asked, torch.get_num_threads()

    seen = []

    def stop(parameters, lr):
        seen.append(state())
        raise KeyError

    before = state()
    with pytest.raises(KeyError):
        train(new_settings("train", {**GIVEN, "width": 3, "method": "none"}), tmp_path / "run", make_optimizer=stop)
    assert seen == [(True, False, 1)], "deterministic, without filling every new tensor with NaN, one thread for digits"
    assert state() == before
