"""Pruning after training: nothing removed changes nothing, the removed network is the masked one, budgets are met from below."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_families import images as family_images
from small_families import make, next_generation, resnext
from torch import nn

from nets.budget import Budget
from nets.certification.calibration import watch_inputs
from nets.flow.difference import divergence
from nets.gauge import Gauge
from nets.groups import channel_groups
from nets.measure import measure
from nets.methods.layerwise import Layerwise
from nets.post_training.budget import channel_costs, measure_curves, zero_writer
from nets.post_training.plan import Plan
from nets.post_training.prune import prune_post_training
from nets.post_training.sites import find_sites
from nets.post_training.stream import Stream
from nets.removal import remove_channels
from nets.resnet import ResNet
from nets.training.evaluate import accuracy
from perspective import InputError


class Chain(nn.Module):
    """Three convolutions in a row (a reader is the next site's writer), in-place ReLUs, and a linear end."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 12, 3, padding=1)
        self.third, self.last_norm = nn.Conv2d(12, 10, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(10)
        self.relu, self.flat, self.linear = nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(10, 5)

    def forward(self, x):
        x = self.relu(self.norm(self.first(x)))
        x = self.relu(self.last_norm(self.third(self.relu(self.second(x)))))
        return self.linear(x.mean((2, 3)))


def settled(model, images):
    """Statistics of its own in every normalisation."""
    model.train()
    with torch.no_grad():
        for _ in range(30):
            model(images)
    return model.eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(120, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(scope="module")
def network(images):
    torch.manual_seed(1)
    return settled(ResNet(8, 10, 1, 4, "A").double(), images)


def plan(kind="channels", share=0.8, **other):
    return Plan(Budget(kind, share), **{"choice": "greedy", "positions": 4, "probe": 40, **other})


def prune(model, images, asked, **other):
    return prune_post_training(model, images, asked, example_inputs=images[:4], **other)


def logits(model, images):
    with torch.no_grad():
        return model.eval()(images)


@pytest.mark.parametrize("allocation", ["measured", "even"])
def test_keeping_every_channel_changes_nothing(network, images, allocation):
    found = prune(network, images, plan(share=1.0, allocation=allocation))
    assert all(len(layer.kept) == layer.channels for layer in found.layers)
    assert (logits(found.model, images) - logits(network, images)).abs().max() <= 1e-8


@pytest.mark.parametrize("kind", ["macs", "params", "channels"])
@pytest.mark.parametrize("chain", [True, False])
def test_the_budget_is_met_from_below_and_the_removed_network_is_the_masked_one(network, images, kind, chain):
    model = settled(Chain().double(), images) if chain else network
    before = copy.deepcopy(model.state_dict())
    found = prune(model, images, plan(kind, 0.7))
    share = getattr(measure(found.model, images[:4]), kind) / getattr(measure(model, images[:4]), kind)
    step = 0.06  # one channel of so small a network is several percent
    assert 0.7 - step <= share <= 0.7
    assert share == pytest.approx(found.share)
    assert (logits(found.model, images) - logits(found.masked, images)).abs().max() <= 1e-9
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    kept = {layer.name: len(layer.kept) for layer in found.layers}
    modules = dict(found.model.named_modules())
    width = {name: modules[name].weight.shape[1] for name in kept}
    assert width == kept


def test_each_repair_brings_the_answers_nearer_to_the_dense_ones(network, images):
    truth = logits(network, images)
    asked = plan("channels", 0.75, allocation="even")
    far = [
        divergence(logits(prune(network, images, replace(asked, repair=repair)).model, images), truth)
        for repair in ("none", "layer", "stream")
    ]
    assert far[0] > far[1] > far[2]


def test_the_error_is_smaller_after_least_squares_in_every_layer(network, images):
    found = prune(network, images, plan(share=0.75))
    assert all(layer.error_after <= layer.error_before + 1e-12 for layer in found.layers)


@pytest.mark.parametrize("choice", ["magnitude", "bn-scale"])
def test_simple_choices_keep_the_largest(network, images, choice):
    found = prune(network, images, plan(choice=choice, allocation="even", repair="none"))
    for layer in found.layers:
        block = dict(network.named_modules())[layer.name.removesuffix(".conv2")]
        size = block.conv1.weight.flatten(1).norm(dim=1) if choice == "magnitude" else block.bn1.weight.abs()
        order = torch.argsort(size, stable=True)[layer.channels - len(layer.kept) :]
        assert set(layer.kept) == set(order.tolist())


class Stopped(Exception):
    pass


def test_an_interrupted_run_continues_to_the_same_bits(network, images, tmp_path):
    asked, told = plan(share=0.8), []

    def stop_at_second(text):
        told.append(text)
        if sum("least squares" in line for line in told) == 2:
            raise Stopped

    whole = prune(network, images, asked)
    with pytest.raises(Stopped):
        prune(network, images, asked, progress=stop_at_second, folder=tmp_path)
    rest = []
    again = prune(network, images, asked, progress=rest.append, folder=tmp_path)
    assert len(rest) == len(whole.layers) - 2
    assert again.layers == whole.layers
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])
    with pytest.raises(InputError, match="another"):
        prune(network, images, replace(asked, seed=1), folder=tmp_path)


def test_a_stream_gives_the_values_of_a_plain_run(images):
    model = settled(Chain().double(), images)
    sites, nodes = find_sites(model, images[:4])
    stream, end = Stream(model, nodes, images), nodes[-1].args[0]
    for site in sites:
        stream.advance(site.writer.node)
        (found,) = zip(*stream.look([end]), strict=True)
        assert torch.equal(torch.cat(found), logits(model, images))
    hidden = torch.cat([value for (value,) in Stream(model, nodes, images).look([sites[0].writer.exit])])
    assert torch.equal(hidden, model.norm(model.first(images)).detach())
    assert float(hidden.min()) < 0  # the in-place ReLU behind it has not touched the copy


def test_looking_ahead_leaves_a_stream_as_it_was_though_a_relu_works_in_place(images):
    model = settled(Chain().double(), images)
    sites, nodes = find_sites(model, images[:4])
    exit, end = sites[0].writer.exit, nodes[-1].args[0]
    stream = Stream(model, nodes, images)
    (early,) = zip(*Stream(model, nodes, images).look([exit]), strict=True)
    stream.advance(next(iter(exit.users)))
    for _ in range(2):
        hidden, scores = zip(*stream.look([exit, end]), strict=True)
        assert torch.equal(torch.cat(hidden), torch.cat(early))
        assert torch.equal(torch.cat(scores), logits(model, images))
    hidden, _ = zip(*Stream(model, nodes, images).look([exit, end]), strict=True)
    assert torch.equal(torch.cat(hidden), torch.cat(early))


@pytest.mark.parametrize("kind", ["macs", "params", "channels"])
def test_a_channel_costs_what_its_removal_saves(network, images, kind):
    sites, nodes = find_sites(network, images[:4])
    for site, cost in zip(sites, channel_costs(network, sites, nodes, images[:4], kind), strict=True):
        trial = copy.deepcopy(network)
        zero_writer(dict(trial.named_modules()), site.writer, np.arange(site.channels) == 1)
        smaller, _ = remove_channels(trial, images[:4])
        sizes = [getattr(measure(model, images[:4]), kind) for model in (network, smaller)]
        assert cost == sizes[0] - sizes[1]


@pytest.mark.parametrize("kind", ["macs", "params"])
def test_a_hidden_unit_of_a_token_costs_what_its_removal_saves(kind):
    """Linear layers behind (batch, height, width, channels): the last axis holds the channels."""
    model, shown = make(next_generation, 0).double(), family_images()
    sites, nodes = find_sites(model, shown)
    costs = dict(zip([site.name for site in sites], channel_costs(model, sites, nodes, shown, kind), strict=True))
    for site in sites:
        trial = copy.deepcopy(model)
        zero_writer(dict(trial.named_modules()), site.writer, np.arange(site.channels) == 1)
        smaller, _ = remove_channels(trial, shown)
        assert costs[site.name] == getattr(measure(model, shown), kind) - getattr(measure(smaller, shown), kind)
    found = prune_post_training(model, shown, plan("macs", 0.8), example_inputs=shown)
    assert 0.75 < found.share <= 0.8


@pytest.mark.parametrize(("family", "kind"), [(resnext, "macs"), (next_generation, "latency")])
def test_what_least_squares_cannot_do_is_refused_with_a_cure(family, kind):
    model, shown = make(family, 0).double(), family_images()
    with pytest.raises(InputError, match="choose another method"):
        Layerwise().refuse_unfit(model, channel_groups(model, shown), Gauge(Budget(kind, 0.5), model, shown))


def test_an_excluded_layer_keeps_all_it_writes(network, images):
    every = [site.writer.name for site in find_sites(network, images[:4])[0]]
    left = [site.writer.name for site in find_sites(network, images[:4], ("layer2.*",))[0]]
    assert left == [name for name in every if not name.startswith("layer2.")] != every
    found = prune(network, images, replace(plan(share=0.8), excluded=("layer2.*",)))
    sizes = {name: len(p) for name, p in found.model.named_parameters() if name.endswith("conv1.weight")}
    whole = {name: len(p) for name, p in network.named_parameters() if name.endswith("conv1.weight")}
    lost = {name for name in whole if sizes[name] < whole[name]}
    assert lost
    assert not any(name.startswith("layer2.") for name in lost)
    method = Layerwise(exclude="layer2.*, layer3.*")
    with pytest.raises(InputError, match="ask for at least"):
        method.refuse_unfit(
            network, channel_groups(network, images[:4]), Gauge(Budget("macs", 0.7), network, images[:4])
        )
    with pytest.raises(InputError, match="exclude fewer"):
        find_sites(network, images[:4], ("*",))


def test_the_classifier_is_the_least_squares_fit_to_the_dense_scores(network, images):
    found = prune(network, images, plan(share=0.75))
    read = torch.cat([batch["linear"] for batch in watch_inputs(found.masked, images, ["linear"])])
    wrong = logits(found.masked, images) - logits(network, images)
    assert wrong.mean(0).abs().max() <= 1e-9  # the bias is free
    kept = read - read.mean(0)
    pull = (found.masked.linear.weight - network.linear.weight).detach().T
    ridge = 1e-4 * float(kept.square().sum()) / kept.shape[1]
    assert (kept.T @ wrong + ridge * pull).abs().max() <= 1e-6 * float(kept.square().sum())


def test_a_curve_is_that_of_its_site_alone(network, images):
    sites, nodes = find_sites(network, images[:4])
    asked = plan(positions=64)
    every = measure_curves(network, images, sites, nodes, asked, lambda _: None)
    alone = measure_curves(network, images, sites[-1:], nodes, asked, lambda _: None)
    assert np.allclose(every[-1], alone[0], rtol=1e-9, atol=1e-12)
    assert every[-1][1] > every[-1][-1] == 0


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [(plan(share=0.3), "ask for at least"), (plan("macs", 0.05), "cannot be reached")],
)
def test_a_budget_out_of_reach_says_what_to_ask_for(network, images, asked, sentence):
    with pytest.raises(InputError, match=sentence):
        prune(network, images, asked)


@pytest.mark.parametrize(
    "other", [{"positions": 0}, {"choice": "best"}, {"repair": "all"}, {"gap": 0}, {"time_limit": 0}]
)
def test_nonsense_in_the_plan_is_refused(other):
    with pytest.raises(InputError):
        plan(**other)


def test_no_images_are_refused(network, images):
    with pytest.raises(InputError, match="image"):
        prune(network, images[:0], plan())


def test_accuracy_of_the_smaller_network_can_be_measured(network):
    from nets.data import load_data

    data = load_data("digits", None)
    few = data.normalise(data.train.images[:60])
    smaller = prune(copy.deepcopy(network).float(), few, plan(share=0.8))
    assert 0 <= accuracy(smaller.model, data, data.validation) <= 100


def test_the_method_prunes_by_the_plan_and_refuses_scores(network, images, monkeypatch):
    seen = []
    monkeypatch.setattr("nets.post_training.prune.prune_post_training", lambda *a, **k: seen.append((a, k)))
    Layerwise(layer_seconds=3.0).prune(network, images, Budget("macs", 0.5), images[:4], 7)
    assert seen[0][0][2] == Plan(Budget("macs", 0.5), time_limit=3.0, seed=7)
    with pytest.raises(InputError, match="calibration"):
        Layerwise().scores(None, {})
