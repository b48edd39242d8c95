"""SPR's box and scores, and the magnitude baseline's proportions, against their definitions."""

import pytest
import torch

from nets.budget import even
from nets.groups import channel_groups
from nets.methods import ALL, SPR, GroupLasso, Magnitude, NoPruning, choose_method
from nets.prox import prox_rows
from nets.resnet import resnet20
from perspective import InputError


@pytest.fixture
def groups():
    torch.manual_seed(0)
    return channel_groups(resnet20(in_channels=1, width=4).double(), torch.zeros(1, 1, 8, 8, dtype=torch.float64))


def test_the_box_is_the_largest_trained_weight_of_the_block(groups):
    with torch.no_grad():
        groups["layer1.0.conv1"].parameters[1][2] = -3.5  # a gamma of its normalisation
    bounds = SPR(0.2, 2.0).prepare(groups.snapshot())
    assert bounds["layer1.0.conv1"].bound == pytest.approx(7.0)
    assert bounds["conv1"].bound == pytest.approx(2 * float(groups.rows(groups["conv1"]).abs().max()))
    assert all(r.parameters["alpha"] == 0.2 for r in bounds.values())
    assert len(bounds) == len(groups.layers)


def test_a_score_is_the_shrinkage_at_which_the_channel_dies(groups):
    method = SPR(0.3, 1.0)
    prepared = method.prepare(groups.snapshot())
    scores = method.scores(groups, prepared)
    for layer in groups.layers[:3]:
        rows = groups.rows(layer)
        for share, dies in ((1 - 1e-9, False), (1 + 1e-9, True)):
            for k in range(layer.channels):
                step = share * float(scores[layer.name][k]) * layer.n / groups.total
                moved = prox_rows(rows[k : k + 1], step, prepared[layer.name], "loop")
                assert bool((moved == 0).all()) == dies


def test_magnitude_takes_every_layer_in_proportion(groups):
    scores = Magnitude().scores(groups, {})
    shares = even(scores)
    for layer in groups.layers:
        norms = groups.rows(layer).norm(dim=1)
        torch.testing.assert_close(scores[layer.name], norms)
        assert torch.equal(
            shares[layer.name].sort().values, torch.arange(1.0, layer.channels + 1).double() / layer.channels
        )
        assert torch.equal(shares[layer.name].argsort(), norms.argsort())


def test_bad_choices_are_refused(groups):
    with pytest.raises(InputError, match="none, spr, spr-subgradient, group-lasso, greg1"):
        choose_method("lasso", {})
    for alpha in (0.0, 1.0, float("nan")):
        with pytest.raises(InputError, match="alpha"):
            choose_method("spr", {"alpha": alpha, "m_scale": 1.0})
    with pytest.raises(InputError, match="scale of M"):
        choose_method("spr", {"alpha": 0.3, "m_scale": 0.0})
    with pytest.raises(InputError, match="prunes nothing"):
        NoPruning().scores(groups, {})
    dead = {**groups.snapshot(), "conv1": torch.zeros(4, 11)}
    with pytest.raises(InputError, match="largest weight of conv1"):
        SPR(0.3, 1.0).prepare(dead)
    given = {"alpha": 0.3, "m_scale": 1.0, "masks": "FILE"}
    assert [choose_method(kind.name, given).name for kind in ALL] == [kind.name for kind in ALL]
    assert len({kind.name for kind in ALL}) == len(ALL)
    with pytest.raises(InputError, match="add --masks"):
        choose_method("masks", {})
    assert choose_method("layerwise", {"alpha": 0.3, "layer_seconds": 7.0}).layer_seconds == 7.0


def test_group_lasso_is_soft_thresholding_of_the_norm(groups):
    method = GroupLasso()
    prepared = method.prepare(groups.snapshot())
    scores = method.scores(groups, prepared)
    for layer in groups.layers[:3]:
        rows, bound = groups.rows(layer), prepared[layer.name]
        norms = rows.norm(dim=1)
        torch.testing.assert_close(torch.from_numpy(bound.value(rows.numpy())), norms)
        torch.testing.assert_close(scores[layer.name], norms * groups.total / layer.n)
        for step in (0.1, 1.0, 10.0):
            expected = rows * (1 - step / norms).clamp(min=0)[:, None]
            torch.testing.assert_close(prox_rows(rows, step, bound, "flat"), expected, rtol=1e-9, atol=1e-12)
