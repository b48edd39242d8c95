"""SAP's keep counts and rounds, slimming's and SPR's subgradients, random orders, travelling masks: each against its rule."""

import json
import math

import numpy as np
import pytest
import torch
from small_net import Net

from nets.groups import channel_groups
from nets.methods.bn_scale import BNScale
from nets.methods.magnitude import Magnitude
from nets.methods.masks import Masks, write_masks
from nets.methods.phase_plan import PhasePlan
from nets.methods.random import Random
from nets.methods.sap import SAP, pq_index, pruned_count
from nets.methods.spr import SPR
from nets.methods.spr_subgradient import SPRSubgradient, subgradient
from nets.resnet import resnet20
from nets.training.schedule import Schedule
from perspective import InputError


@pytest.mark.parametrize(
    ("w", "p", "q", "eta", "gamma", "pruned"),
    [
        ([1, 1, 1, 1], 0.5, 1.0, 0.0, 1.0, 0),  # I = 0: r = 4
        ([4, 1, 0, 0], 0.5, 1.0, 0.0, 1.0, 2),  # I = 1 - 9 / (4 * 5) = .55: r = ceil(1.8) = 2
        ([4, -1, 0, 0], 0.5, 1.0, 0.0, 1.2, 2),  # floor(4 * 1.2 * .5)
        ([4, 1, 0, 0], 0.5, 1.0, 1.0, 1.0, 3),  # r = ceil(1.8 / 4) = 1
        ([4, 1, 0, 0], 1.0, 2.0, 0.0, 1.0, 2),  # I = 1 - 5 / (2 sqrt 17): r = ceil(4 * .60634^2) = ceil(1.47)
        ([1] + 99 * [0], 0.5, 1.0, 0.0, 1.0, 90),  # r = 1, the share is cut at .9
    ],
)
def test_saps_counts_by_hand(w, p, q, eta, gamma, pruned):
    assert pruned_count(torch.tensor(w, dtype=torch.float64), p, q, eta, gamma) == pruned


def test_the_pq_index_by_hand():
    w = torch.tensor([4.0, 1.0, 0.0, 0.0])
    assert pq_index(w, 0.5, 1.0) == pytest.approx(0.55)
    assert pq_index(w, 1.0, 2.0) == pytest.approx(1 - 5 / (2 * math.sqrt(17)))
    assert pq_index(1e-30 * w, 0.5, 1.0) == pytest.approx(0.55)
    with pytest.raises(InputError, match="0 < p < q"):
        SAP(p=1.0, q=0.5)


def network():
    torch.manual_seed(0)
    model = Net().double()
    return model, channel_groups(model, torch.zeros(2, 2, 6, 6, dtype=torch.float64))


def plan_for(model, epochs, steps, choose=lambda scores: [], strength=None):
    some_budget = object()
    return PhasePlan(model, strength, epochs, steps, Schedule(0.1, "constant"), some_budget, choose)


def give_gradients(model, value=0.01):
    for p in model.parameters():
        p.grad = torch.full_like(p, value)


def test_sap_rewinds_what_stays_and_keeps_the_rest_at_zero():
    model, groups = network()
    with torch.no_grad():
        model.conv1.weight[:2] *= 1e-4  # a layer of which few filters matter
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    asked = []

    def choose(scores):  # a budget that wants conv1's lowest only
        asked.append(scores)
        return [("conv1", int(scores["conv1"].argmin()))]

    optimizer = SAP(rounds=2).wrap(
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), groups, {}, plan_for(model, 2, 3, choose)
    )
    for step in range(6):
        give_gradients(model)
        optimizer.step()
        if step == 2:
            gone = int(groups.rows(groups["conv1"]).norm(dim=1).argmin())
            assert gone in (0, 1)
            for name, p in model.named_parameters():
                rewound = start[name].clone()
                if name in ("conv1.weight", "bn1.weight", "bn1.bias"):
                    rewound[gone] = 0
                assert torch.equal(p, rewound), name
            assert not optimizer.inner.state
    assert len(asked) == 1
    assert not groups.rows(groups["conv1"])[gone].any()
    assert bool((groups.rows(groups["conv1"])[2:] != start["conv1.weight"][2:].flatten()[0]).any())
    assert groups.surviving() == {"conv1": 4, "conv2": 4}  # never more than the budget asked for


def test_slimming_adds_the_sign_of_gamma_and_nothing_else():
    model, groups = network()
    with torch.no_grad():
        model.bn1.weight.copy_(torch.tensor([0.5, -0.25, 0.0, 1.0, 2.0]))
    free = type(groups)((groups["conv1"],))
    optimizer = BNScale().wrap(
        torch.optim.SGD(model.parameters(), lr=0.1), free, {}, plan_for(model, 1, 1, strength=0.3)
    )
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    give_gradients(model, 0.0)
    optimizer.step()
    for name, p in model.named_parameters():
        change = 0.03 * before[name].sign() if name == "bn1.weight" else 0.0
        torch.testing.assert_close(p.detach(), before[name] - change, rtol=0, atol=1e-15)
    sizes = BNScale().conclude(optimizer, free, {})["conv1"]
    torch.testing.assert_close(sizes, model.bn1.weight.detach().abs())
    with pytest.raises(
        InputError, match='conv2 has none that scales its channels; leave such layers out with --exclude "conv2"'
    ):
        BNScale().wrap(torch.optim.SGD(model.parameters(), lr=0.1), groups, {}, plan_for(model, 1, 1, strength=0.3))


def test_slimmings_default_shrinks_the_budgets_last_gamma_to_zero():
    model, groups = network()
    with torch.no_grad():
        model.bn1.weight.copy_(torch.tensor([0.5, 0.1, 0.3, 1.0, 2.0]))
    free = type(groups)((groups["conv1"],))
    plan = plan_for(model, 2, 500, lambda scores: [("conv1", 1), ("conv1", 2)])
    optimizer = BNScale().wrap(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), free, {}, plan)
    assert optimizer.strength == pytest.approx(0.3 * 0.1 / (0.1 * 1000))
    for _ in range(1000):
        give_gradients(model, 0.0)
        optimizer.step()
    assert float(model.bn1.weight[2].detach().abs()) < 0.01
    assert float(model.bn1.weight[0].detach()) == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(("alpha", "box"), [(0.3, 1.0), (0.01, 1.0), (0.9, 2.0)])
def test_the_subgradient_is_the_derived_regularisers(alpha, box):
    trained = {"x": torch.tensor([[box, 0.0, 0.0]])}
    bound = SPR(alpha, 1.0).prepare(trained)["x"]
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(60, 3)) * 10 ** generator.uniform(-3, 0, size=(60, 1))
    rows *= np.minimum(1.0, box / np.abs(rows).max(1, keepdims=True))
    rows = np.concatenate([rows, [[0.0, 0.0, 0.0], [box, 0.1, 0.0]]])
    mine = subgradient(torch.from_numpy(rows), alpha, box).numpy()
    np.testing.assert_allclose(mine, bound.gradient(rows), rtol=1e-9, atol=1e-12)
    h = 1e-7
    for row, slope in zip(rows[:20], mine[:20], strict=True):  # and of the value itself, by differences
        for k in range(3):
            ahead, behind = row + h * np.eye(3)[k], row - h * np.eye(3)[k]
            if np.abs([ahead, behind]).max() <= box:
                difference = (bound.value(ahead) - bound.value(behind)) / (2 * h)
                assert slope[k] == pytest.approx(difference, rel=1e-4, abs=1e-4)


def test_the_subgradient_step_stays_in_its_box():
    model, groups = network()
    method = SPRSubgradient(0.3, 1.0)
    prepared = method.prepare(groups.snapshot())
    plan = plan_for(model, 1, 1, strength=2.0)
    optimizer = method.wrap(torch.optim.SGD(model.parameters(), lr=0.1), groups, prepared, plan)
    rows = {x.name: groups.rows(x) for x in groups.layers}
    give_gradients(model, -1e-3)
    optimizer.step()
    for x in groups.layers:
        slope = subgradient(rows[x.name], 0.3, prepared[x.name].parameters["M"])
        expected = rows[x.name] - 0.1 * (2.0 * x.n / groups.total * slope - 1e-3)
        box = prepared[x.name].parameters["M"]
        torch.testing.assert_close(groups.rows(x), expected.clamp(-box, box), rtol=1e-9, atol=1e-12)


def test_random_scores_depend_on_the_seed_alone():
    torch.manual_seed(0)
    model = resnet20(in_channels=1, width=4)
    groups = channel_groups(model, torch.zeros(1, 1, 8, 8))
    one, other = Random(1).scores(groups, {}), Random(2).scores(groups, {})
    with torch.no_grad():
        model.conv1.weight.mul_(3.0)
    again = Random(1).scores(groups, {})
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["layer3.0.conv1"], other["layer3.0.conv1"])
    assert not torch.equal(one["layer3.0.conv1"], one["layer3.0.conv2"])


def test_magnitude_counts_in_the_norm_asked_for():
    _, groups = network()
    row = groups.rows(groups["conv1"])[0]
    assert float(Magnitude("l1").scores(groups, {})["conv1"][0]) == pytest.approx(float(row.abs().sum()))
    assert float(Magnitude("l2").scores(groups, {})["conv1"][0]) == pytest.approx(float(row.square().sum().sqrt()))


def test_masks_travel_to_a_network_for_other_classes(tmp_path):
    torch.manual_seed(0)
    images = torch.zeros(1, 1, 8, 8)
    source, target = resnet20(in_channels=1, width=4), resnet20(in_channels=1, width=4, num_classes=7)
    groups = channel_groups(source, images)
    layer = groups["layer2.0.conv1"]
    rows = groups.rows(layer)
    rows[[1, 5]] = 0
    groups.write(layer, rows)
    write_masks(tmp_path / "masks.json", groups)
    there = channel_groups(target, images)
    Masks(str(tmp_path / "masks.json")).conclude(None, there, {})
    gone = {x.name: (~there.alive(x)).nonzero().flatten().tolist() for x in there.layers}
    assert gone.pop("layer2.0.conv1") == [1, 5]
    assert not any(gone.values())
    wider = channel_groups(resnet20(in_channels=1, width=8), images)
    with pytest.raises(InputError, match="take masks of the same architecture"):
        Masks(str(tmp_path / "masks.json")).conclude(None, wider, {})
    (tmp_path / "other.json").write_text(json.dumps({"layers": []}))
    with pytest.raises(InputError, match="holds no masks"):
        Masks(str(tmp_path / "other.json")).conclude(None, there, {})
