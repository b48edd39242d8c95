"""ChipNet: curves and schedules by hand, budgets against counting, the gated step against explicit gates, the final choice."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nets.budget import share_left
from nets.gauge import Budget, Gauge
from nets.groups import channel_groups
from nets.limits import Limits, select
from nets.methods.chipnet import ChipNet
from nets.methods.chipnet_budget import count_layers, spent
from nets.methods.chipnet_gates import Curves, Gated
from nets.methods.phase_plan import PhasePlan
from nets.networks import build
from nets.resnet import resnet20
from nets.training.schedule import Schedule
from perspective import InputError

KINDS = ("channels", "volume", "params", "macs")


@pytest.mark.parametrize(
    ("epoch", "beta", "gamma", "kappa"),
    [(0, 1.0, 2.0, 10.0), (2, 1.04, 4.0, 20.0), (10, 1.2, 64.0, 60.0), (20, 1.4, 256.0, 60.0), (400, 6.0, 256.0, 60.0)],
)
def test_the_steepnesses_follow_their_schedules(epoch, beta, gamma, kappa):
    curves = Curves(epoch)
    assert (curves.beta, curves.gamma, curves.kappa) == pytest.approx((beta, gamma, kappa), rel=1e-12)


def test_the_curves_are_logistic_and_heaviside():
    psi = torch.tensor([-3.0, 0.0, 0.7], dtype=torch.float64)
    for epoch in (0, 7):
        curves = Curves(epoch)
        for k, x in enumerate(psi.tolist()):
            soft = 1 / (1 + math.exp(-curves.beta * x))
            hard = 1 - math.exp(-curves.gamma * soft) + soft * math.exp(-curves.gamma)
            assert float(curves.logistic(psi)[k]) == pytest.approx(soft, rel=1e-12)
            assert float(curves.heaviside(psi)[k]) == pytest.approx(hard, rel=1e-12)
            survival = 1 / (1 + math.exp(-curves.kappa * (hard - 0.5)))
            assert float(curves.survival(curves.heaviside(psi))[k]) == pytest.approx(survival, rel=1e-12)
    assert float(Curves(0).heaviside(torch.zeros(1).double())) == pytest.approx(1 - math.exp(-1) + 0.5 * math.exp(-2))


def test_the_curves_step_by_epochs_and_move_evenly_in_runs_that_are_shorter_than_the_papers():
    model, images, groups = chain()
    for epochs, expected in ((20, [0, 0, 0, 1, 1, 1, 2]), (10, [0, 2 / 3, 4 / 3, 2, 8 / 3, 10 / 3, 4])):
        plan = plan_for(model, images, epochs=epochs, steps=3)
        gated = Gated(torch.optim.SGD(model.parameters(), lr=0.1), groups, plan, count_layers(model, groups, images), 0)
        assert [gated._curves(step).epoch for step in range(7)] == pytest.approx(expected)
        gated.open()


class Chain(nn.Module):
    """Three convolutions in a row, the second with groups."""

    def __init__(self):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.c2, self.b2 = nn.Conv2d(6, 4, 1, groups=2, bias=False), nn.BatchNorm2d(4)
        self.c3, self.b3 = nn.Conv2d(4, 5, 3, stride=2, padding=1), nn.BatchNorm2d(5)
        self.classifier = nn.Linear(5, 3)

    def forward(self, x):
        return self.gated(x, dict.fromkeys(("c1", "c2", "c3")))

    def gated(self, x, gates):
        for k in (1, 2, 3):
            x, z = getattr(self, f"b{k}")(getattr(self, f"c{k}")(x)), gates[f"c{k}"]
            x = F.relu(x if z is None else x * z.view(1, -1, 1, 1))
        return self.classifier(x.mean((2, 3)))


def chain():
    torch.manual_seed(0)
    model, images = Chain().double(), torch.randn(6, 2, 8, 8, dtype=torch.float64)
    return model, images, channel_groups(model, images)


def test_a_budget_is_what_counting_says():
    model, images, groups = chain()
    layers = count_layers(model, groups, images)
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        s = {x.name: torch.rand(x.channels, generator=generator).round() for x in groups.layers}
        n = {name: int(gates.sum()) for name, gates in s.items()}
        assert float(spent("channels", layers, s)) == pytest.approx((n["c1"] + n["c2"] + n["c3"]) / 15)
        volume = (64 * n["c1"] + 64 * n["c2"] + 16 * n["c3"]) / (64 * 6 + 64 * 4 + 16 * 5)
        assert float(spent("volume", layers, s)) == pytest.approx(volume)
        params = (9 * 2 * n["c1"] + n["c1"] / 2 * n["c2"] + 9 * n["c2"] * n["c3"]) / (9 * 2 * 6 + 3 * 4 + 9 * 4 * 5)
        assert float(spent("params", layers, s)) == pytest.approx(params)
        macs = 64 * n["c1"] * 19 + 64 * n["c2"] * (n["c1"] / 2 + 1) + 16 * n["c3"] * (9 * n["c2"] + 1)
        assert float(spent("macs", layers, s)) == pytest.approx(
            macs / (64 * 6 * 19 + 64 * 4 * 4 + 16 * 5 * 37), rel=1e-6
        )


@pytest.mark.parametrize("patterns", [(), ("conv1", "*.conv2")])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gates_spend_what_removal_leaves(kind, patterns):
    """Also where layers are excluded: against the physically smaller network, whose classifier is counted too."""
    torch.manual_seed(0)
    model, images = resnet20(in_channels=1, width=8).eval(), torch.randn(2, 1, 16, 16)
    groups = select(channel_groups(model, images), Limits(0.0, 1, patterns))
    layers = count_layers(model, groups, images)
    assert len(layers) == 19, "convolutions of the network, gated or not"
    gates = {x.name: (torch.rand(x.channels) < 0.7).float() for x in groups.layers}
    gone = [(name, k) for name, s in gates.items() for k in range(len(s)) if s[k] == 0]
    left = share_left(model, groups, Gauge(Budget(kind, 1.0), model, images), gone)
    assert float(spent(kind, layers, gates)) == pytest.approx(left, abs=0.03)


def test_behind_an_addition_a_channel_lives_if_any_summand_has_it():
    torch.manual_seed(0)
    model, images = resnet20(in_channels=1, width=4), torch.zeros(1, 1, 8, 8)
    groups = channel_groups(model, images)
    by_name = {x.name: x for x in count_layers(model, groups, images)}
    assert by_name["conv1"].before == ()
    assert by_name["layer1.0.conv1"].before == ("conv1",)
    assert by_name["layer1.1.conv1"].before == ("conv1", "layer1.0.conv2")
    assert by_name["layer1.1.conv2"].before == ("layer1.1.conv1",)
    assert by_name["layer2.1.conv1"].before == ()  # a padded shortcut brings channels that no gate governs
    s = {x.name: torch.ones(x.channels) for x in groups.layers}
    s["conv1"], s["layer1.0.conv2"] = torch.tensor([1.0, 0, 0, 0]), torch.tensor([1.0, 1, 0, 0])
    alone = (by_name["layer1.1.conv1"],)
    assert float(spent("params", alone, s)) == pytest.approx(2 / 4)


@pytest.mark.parametrize("name", ["vgg16_bn", "mobilenet_v2"])
def test_other_networks_have_governed_layers(name):
    arguments = {"num_classes": 4, "in_channels": 3, **({"width": 4} if name == "vgg16_bn" else {})}
    model, images = build(**arguments, name=name), torch.zeros(1, 3, 32, 32)
    groups = channel_groups(model, images)
    layers = count_layers(model, groups, images)
    assert sum(bool(layer.before) for layer in layers) >= len(layers) * 0.9
    full = {x.name: torch.ones(x.channels) for x in groups.layers}
    assert all(float(spent(kind, layers, full)) == 1.0 for kind in KINDS)


def plan_for(model, images, kind="macs", share=0.4, epochs=2, steps=2):
    gauge = Gauge(Budget(kind, share), model, images)
    return PhasePlan(model, None, epochs, steps, Schedule(0.1, "constant"), gauge, lambda scores: [])


def compare_with_explicit_gates(kind="macs"):
    model, images, groups = chain()
    reference, labels = chain()[0], torch.arange(6) % 3
    plan = plan_for(model, images, kind)
    inner = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    optimizer = ChipNet(seed=3).wrap(inner, groups, {}, plan)
    assert isinstance(optimizer, Gated)
    psi = {name: gate.detach().clone().requires_grad_() for name, gate in optimizer.psi.items()}
    weights = torch.optim.SGD(reference.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    gates = torch.optim.AdamW(psi.values(), lr=0.1, weight_decay=0.0)  # 1e-3 times 28125 / 4 steps, at most .1
    layers = count_layers(reference, channel_groups(reference, images), images)
    for step in range(4):
        curves = Curves(20 * step / 4)
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        weights.zero_grad()
        gates.zero_grad()
        z = {name: curves.heaviside(gate) for name, gate in psi.items()}
        crisp = torch.cat([(z[name] - curves.logistic(gate)).square() for name, gate in psi.items()]).mean()
        share = spent(kind, layers, {name: torch.sigmoid(curves.kappa * (v - 0.5)) for name, v in z.items()})
        loss = F.cross_entropy(reference.gated(images, z), labels) + 10 * crisp + 30 * (share - 0.4) ** 2
        loss.backward()
        weights.step()
        gates.step()
        for name, gate in psi.items():
            torch.testing.assert_close(optimizer.psi[name].detach(), gate.detach(), rtol=1e-6, atol=1e-9)
    optimizer.open()
    for (name, mine), theirs in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine.detach(), theirs.detach(), rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_the_folded_gates_train_as_explicit_ones(kind):
    compare_with_explicit_gates(kind)


def no_crispness(self, curves):
    z = {name: curves.survival(curves.heaviside(psi)) for name, psi in self.psi.items()}
    return 30.0 * (spent(self.kind, self.layers, z) - self.share) ** 2


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("gate_loss", no_crispness), ("_curves", lambda self, step: Curves(0)), ("_put", lambda self, name, values: None)],
)
def test_wrong_gates_are_caught(name, wrong, monkeypatch):
    monkeypatch.setattr(Gated, name, wrong)
    with pytest.raises(AssertionError):
        compare_with_explicit_gates()


def test_at_the_end_gates_are_open_and_the_order_is_that_of_z():
    model, images, groups = chain()
    gammas = {k: getattr(model, f"b{k}").weight.detach().clone() for k in (1, 2, 3)}
    method = ChipNet()
    optimizer = method.wrap(torch.optim.SGD(model.parameters(), lr=0.1), groups, {}, plan_for(model, images))
    assert not torch.equal(model.b1.weight, gammas[1])  # the network runs with its gates
    with torch.no_grad():
        optimizer.psi["c1"].copy_(torch.tensor([-2.0, 3.0, 20.0, 30.0, 0.0, 1.0]))
    scores = method.conclude(optimizer, groups, {})
    assert all(torch.equal(getattr(model, f"b{k}").weight, gammas[k]) for k in gammas)
    assert scores["c1"].argsort().tolist() == [0, 4, 5, 1, 2, 3]
    assert bool((scores["c1"] > 0).all())


def test_networks_without_normalisation_are_refused_in_a_sentence():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 36, 2))
    images = torch.zeros(2, 1, 8, 8)
    groups = channel_groups(model, images)
    with pytest.raises(InputError, match="nothing of it scales a channel of this network"):
        ChipNet().wrap(torch.optim.SGD(model.parameters(), lr=0.1), groups, {}, plan_for(model, images))
    with pytest.raises(InputError, match="no formula for a budget of latency"):
        spent("latency", (), {})
