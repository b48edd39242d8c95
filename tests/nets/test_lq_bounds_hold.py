"""Stechkin's inequality, the counts that follow from it, and the error bound carried through networks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nets.flow.error_bound import bound_outputs
from nets.groups import channel_groups
from nets.methods import lq_tails
from nets.methods.lq import LQ, prune_neurons
from nets.methods.lq_tails import kept_count, tail_bound, tolerances
from nets.resnet import resnet20
from perspective import InputError

VECTORS = st.lists(st.floats(-100, 100, allow_subnormal=False), min_size=2, max_size=30).filter(
    lambda v: np.abs(v).max() > 1e-3
)


def norm(w, q):
    return float((np.abs(w) ** q).sum() ** (1 / q))


def tail(w, m):
    return float(np.linalg.norm(np.sort(np.abs(w))[: len(w) - m]))


@settings(max_examples=60, deadline=None)
@given(VECTORS, st.floats(0.1, 0.95))
def test_what_is_left_is_below_the_bound(v, q):
    w = np.array(v)
    for m in range(1, len(w) + 1):
        bound = tail_bound(torch.from_numpy(w), m, q)
        assert tail(w, m) <= bound * (1 + 1e-9)
        if m < len(w):
            assert bound == pytest.approx(norm(w, q) * m ** (0.5 - 1 / q), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(VECTORS, st.floats(0.1, 0.95), st.floats(0.05, 3.0))
def test_the_count_is_the_formulas_and_keeps_the_tolerance(v, q, eta):
    w = np.array(v)
    asked = (norm(w, q) / (eta * np.linalg.norm(w))) ** (2 * q / (2 - q))
    m = kept_count(torch.from_numpy(w), eta, q)
    nonzero = max(1, int((w != 0).sum()))
    assert m in {min(nonzero, max(1, math.ceil(asked * (1 + sign * 1e-9)))) for sign in (-1, 0, 1)}
    assert tail(w, m) <= eta * np.linalg.norm(w) * (1 + 1e-9)


@pytest.mark.parametrize("rho", [0.3, 0.7, 0.9])
@pytest.mark.parametrize("q", [0.25, 0.5, 0.75])
def test_geometric_decays_achieve_their_tolerance(rho, q):
    w = rho ** np.arange(2000)
    previous = len(w)
    for eta in (0.1, 0.3, 0.6):
        m = kept_count(torch.from_numpy(w), eta, q)
        assert tail(w, m) / np.linalg.norm(w) == pytest.approx(rho**m, rel=1e-6)  # of a geometric series, known exactly
        assert rho**m <= eta
        assert m < previous
        previous = m
        factor = (1 - rho**q) ** (-1 / q) * math.sqrt(1 - rho**2)  # ||w||_q / ||w||_2 of the series
        assert m == math.ceil((factor / eta) ** (2 * q / (2 - q)))


@pytest.mark.parametrize("wrong", [lambda w, q: w.norm(q) * 0.2, lambda w, q: w.norm(2) * 0.5])
def test_a_wrong_norm_is_caught(wrong, monkeypatch):
    monkeypatch.setattr(lq_tails, "_norm", lambda w, q: float(wrong(w, q)))
    with pytest.raises(AssertionError):
        test_geometric_decays_achieve_their_tolerance(0.9, 0.5)


def test_one_tolerance_for_the_network_gives_every_layer_its_count():
    torch.manual_seed(0)
    groups = channel_groups(resnet20(in_channels=1, width=4), torch.zeros(1, 1, 8, 8))
    layer = groups["layer3.0.conv1"]
    rows = groups.rows(layer)
    groups.write(layer, rows * torch.logspace(0, -3, len(rows))[:, None])
    scores = LQ().scores(groups, {})
    for eta in (0.3, 0.8, 1.5):
        for x in groups.layers:
            norms = groups.rows(x).double().norm(dim=1)
            assert max(1, int((scores[x.name] > eta).sum())) == kept_count(norms, eta, 0.5)
            assert scores[x.name].isinf().sum() == 1
    assert float((scores[layer.name] > 1).sum()) / layer.channels < 0.5  # fast decay: it loses more than the others
    assert tolerances(torch.zeros(3), 0.5).tolist() == [0.0, 0.0, 0.0]
    with pytest.raises(InputError, match="strictly between 0 and 1"):
        LQ(q=1.0)


def pruned_pair(model, images, eta):
    model = model.double().eval()
    pruned, lost = prune_neurons(model, eta, 0.5)
    weights = [m.weight for m in pruned.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert any(bool((w == 0).any()) for w in weights)
    return model, pruned, images.double(), lost


def check_network(model, images, eta):
    model, pruned, images, lost = pruned_pair(model, images, eta)
    exact, stechkin = bound_outputs(model, pruned, images), bound_outputs(model, pruned, images, lost)
    with torch.no_grad():
        truth = float((model(images) - pruned(images)).abs().max())
    assert exact.measured == stechkin.measured == pytest.approx(truth)
    assert 0 < truth <= exact.bound * (1 + 1e-12)
    assert exact.bound <= stechkin.bound * (1 + 1e-12)


class Mixed(nn.Module):
    """Every kind of operation that has a rule."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.deep = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False)
        self.squeeze, self.act, self.gate = nn.Conv2d(6, 6, 1), nn.Hardswish(), nn.Sigmoid()
        self.pool, self.average = nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(6, 3)

    def forward(self, x):
        x = self.act(self.bn(self.conv(x)))
        x = x + torch.relu(self.deep(x))
        x = self.pool(x * self.gate(self.squeeze(self.average(x))))
        return self.linear(torch.flatten(self.average(x), 1))


@pytest.mark.parametrize("seed", range(4))
def test_no_output_moves_further_than_the_bound(seed):
    torch.manual_seed(seed)
    check_network(Mixed(), 2 * torch.randn(5, 2, 8, 8), eta=1.2)


def test_a_residual_network_is_bounded():
    torch.manual_seed(0)
    check_network(resnet20(in_channels=1, width=2), torch.randn(3, 1, 8, 8), eta=1.0)


def test_one_layer_achieves_the_bound():
    linear = nn.Sequential(nn.Linear(4, 1, bias=False)).double()
    linear[0].weight.data = torch.tensor([[4.0, 0.1, 0.1, 0.1]], dtype=torch.float64)
    pruned, lost = prune_neurons(linear, 1.0, 0.5)
    kept = int((pruned[0].weight != 0).sum())
    assert kept < 4
    difference = (linear[0].weight - pruned[0].weight).detach()
    found = bound_outputs(linear, pruned, difference)  # the worst input points along what was lost
    assert found.bound == pytest.approx(found.measured, rel=1e-12)
    assert found.measured == pytest.approx(float(difference.square().sum()))
    assert bound_outputs(linear, pruned, difference, lost).bound >= found.bound


def test_a_walk_that_forgets_earlier_errors_is_caught(monkeypatch):
    from nets.flow import error_bound

    def forgetful(module):
        layer = error_bound.copy.deepcopy(module)
        layer.weight.data.mul_(0)
        layer.bias = None
        return layer

    monkeypatch.setattr(error_bound, "_absolute", forgetful)
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        linear[0].weight.copy_(torch.tensor([[4.0, 0.01, 0.01]] * 3))
        linear[0].bias.fill_(1.0)
        linear[2].weight.fill_(5.0)
    with pytest.raises(AssertionError):
        check_network(linear, torch.full((1, 3), 9.0), eta=1.0)


def test_an_operation_without_a_rule_is_named():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    with pytest.raises(InputError, match="through 1 \\(LayerNorm\\)"):
        bound_outputs(model, model, torch.randn(2, 3))


@pytest.mark.parametrize("dead", [0, 3])
def test_the_findings_stand_side_by_side(dead):
    """dead: weights that the dense network has at zero already."""
    torch.manual_seed(0)
    dense = resnet20(in_channels=1, width=2).eval()
    with torch.no_grad():
        dense.layer3[0].conv2.weight[0, 0, 0, :dead] = 0
    masked = resnet20(in_channels=1, width=2).eval()
    masked.load_state_dict(dense.state_dict())
    with torch.no_grad():
        for name in ("layer1.0.conv1", "layer2.0.conv1"):
            masked.get_submodule(name).weight[0] = 0
            masked.get_submodule(name.replace("conv", "bn")).weight[0] = 0
            masked.get_submodule(name.replace("conv", "bn")).bias[0] = 0
    images = torch.randn(2, 1, 8, 8)
    networks = [(model, channel_groups(model, images)) for model in (dense, masked)]
    found = LQ().findings(*networks, images)
    assert found["filters"]["pruned_weights"] == found["neurons"]["pruned_weights"] == 2 * 9 + 2 * 9
    bars = LQ().scores(networks[0][1], {})
    assert found["eta"] == max(float(bars[name][0]) for name in ("layer1.0.conv1", "layer2.0.conv1"))
    assert found["kept"]["layer1.0.conv1"] == 1
    assert found["kept"]["conv1"] == 2
    for form in ("filters", "neurons"):
        assert 0 < found[form]["measured"] <= found[form]["bound"]
