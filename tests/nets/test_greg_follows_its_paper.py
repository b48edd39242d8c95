"""Growing regularisation on three filters, counted by hand: growth, ceiling, picking, holding, early stop, scaling."""

import pytest
import torch
from torch import nn

from nets.groups import channel_groups
from nets.methods.growing_penalty import Growing, chosen_first
from nets.methods.growing_schedule import Growth, scaled_growth
from nets.methods.phase_plan import PhasePlan
from nets.training.schedule import Schedule

LR = 0.1


def three_filters():
    """A convolution with filters 3, 1, 2 and a normalisation whose numbers no penalty may touch."""
    model = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.BatchNorm2d(3)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([3.0, 1.0, 2.0]).view(3, 1, 1, 1))
    return model, channel_groups(model, torch.zeros(2, 1, 2, 2, dtype=torch.float64))


def weights_after_each_step(growth, steps, targets=1, slope=(0.0, 0.0, 0.0)):
    """The loss has the constant gradient `slope`."""
    model, groups = three_filters()
    growing = Growing(torch.optim.SGD(model.parameters(), lr=LR), groups, {"0": targets}, growth)
    seen = []
    for _ in range(steps):
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        model[0].weight.grad.copy_(torch.tensor(slope).view(3, 1, 1, 1))
        growing.step()
        seen.append(model[0].weight.detach().flatten().tolist())
        assert torch.equal(model[1].weight, torch.ones(3))
        assert torch.equal(model[1].bias, torch.zeros(3))
    return seen, growing


def greg1_grows_every_second_step_to_its_ceiling_and_holds():
    seen, growing = weights_after_each_step(Growth(every=2, step=0.5, ceiling=1.0), 8)
    expected = 1.0
    for (first, second, third), R in zip(seen, [0.5, 0.5, 1.0, 1.0, 1.5, 1.5, 1.5, 1.5], strict=True):
        expected -= LR * R * expected
        assert (first, third) == (3.0, 2.0)
        assert second == pytest.approx(expected, rel=1e-12)
    assert growing.finished == ["0"]
    assert chosen_first(growing)["0"].argmin() == 1


def test_greg1_grows_to_its_ceiling_and_holds():
    greg1_grows_every_second_step_to_its_ceiling_and_holds()


def never_finished(self):
    grow(self)
    self.finished = []


def every_step(self):
    grow(self)
    if self.done % 2 == 0:
        grow(self)


def kept_too(self):
    grow(self)
    self.R["0"][:] = self.R["0"].max()


def signs(self):
    grow(self)
    self.R["0"] *= -1


grow = Growing._grow


@pytest.mark.parametrize("wrong", [never_finished, every_step, kept_too, signs])
def test_wrong_growth_is_caught(wrong, monkeypatch):
    monkeypatch.setattr(Growing, "_grow", wrong)
    with pytest.raises(AssertionError):
        greg1_grows_every_second_step_to_its_ceiling_and_holds()


def test_greg2_picks_by_the_present_weights_then_pushes_and_pulls():
    growth = Growth(every=1, step=0.5, ceiling=10.0, kept=-0.25, pick_step=0.1, pick_ceiling=0.2)
    seen, growing = weights_after_each_step(growth, 4, slope=(25.0, 0.0, 0.0))
    w, factors = [3.0, 1.0, 2.0], [[0.1] * 3, [0.2] * 3, [0.7, -0.25, -0.25], [1.2, -0.25, -0.25]]
    for now, R in zip(seen, factors, strict=True):  # filter 0 is the largest at the start, the smallest at the choice
        w = [x - LR * (r * x + (25.0 if k == 0 else 0.0)) for k, (x, r) in enumerate(zip(w, R, strict=True))]
        assert now == pytest.approx(w, rel=1e-12)
    assert growing.pruned["0"].tolist() == [True, False, False]
    assert growing.picked


def test_the_choice_comes_after_the_ceiling_not_before():
    growth = Growth(every=1, step=0.5, ceiling=10.0, kept=0.0, pick_step=0.1, pick_ceiling=0.3)
    _, growing = weights_after_each_step(growth, 2)
    assert not growing.picked
    assert not growing.pruned["0"].any()
    _, growing = weights_after_each_step(growth, 3)
    assert growing.pruned["0"].tolist() == [False, True, False]


def test_the_moving_average_of_the_ratio_stops_growth():
    growth = Growth(every=1, step=1.0, ceiling=100.0, ratio=4.0, memory=0.5)
    _, growing = weights_after_each_step(growth, 12)
    w, R, average, stopped = 1.0, 0.0, None, False
    for _ in range(12):
        if not stopped:
            R += 1.0
            average = 2.5 / w if average is None else 0.5 * average + 0.5 * 2.5 / w
            stopped = average >= 4.0
        w -= LR * R * w
    assert stopped
    assert R < 12
    assert growing.R["0"].tolist() == pytest.approx([0.0, R, 0.0])


def all_layers_stop_together(self):
    grow(self)
    reached = all(self.ratios.get(name, 0.0) >= self.growth.ratio for name in self.R)
    self.finished = [*self.R] if reached else []


def each_layer_stops_alone(self):
    grow(self)
    self.finished = sorted(name for name, ratio in self.ratios.items() if ratio >= self.growth.ratio)


def the_ratio_stops_layers(picks):
    """Two layers: the first one's kept filters are 100 times its pruned one at once, the second one's never."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 2, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 100.0]).view(2, 1, 1, 1))
        model[1].weight.copy_(torch.tensor([[1.0, 1.0], [1.5, 1.5]]).view(2, 2, 1, 1))
    groups = channel_groups(model, torch.zeros(1, 1, 2, 2, dtype=torch.float64))
    chosen = {"pick_step": 1e-9, "pick_ceiling": 1e-9} if picks else {}
    growth = Growth(every=1, step=1e-3, ceiling=10.0, ratio=50.0, **chosen)
    growing = Growing(torch.optim.SGD(model.parameters(), lr=1e-3), groups, {"0": 1, "1": 1}, growth)
    for _ in range(6):
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        growing.step()
    grown = {name: float(R.max()) for name, R in growing.R.items()}
    assert grown["1"] == pytest.approx(6e-3 - picks * 1e-3, rel=1e-3), "its ratio never gets there"
    assert grown["0"] == pytest.approx(1e-3 if picks else 6e-3, rel=1e-3), "GReg-2 stops a layer alone, GReg-1 not"
    assert growing.finished == (["0"] if picks else [])


@pytest.mark.parametrize("picks", [False, True])
def test_the_ratio_stops_a_layer_of_greg2_and_only_all_layers_of_greg1(picks):
    the_ratio_stops_layers(picks)


@pytest.mark.parametrize(("wrong", "picks"), [(all_layers_stop_together, True), (each_layer_stops_alone, False)])
def test_the_other_ones_stop_is_caught(wrong, picks, monkeypatch):
    monkeypatch.setattr(Growing, "_grow", wrong)
    with pytest.raises(AssertionError):
        the_ratio_stops_layers(picks)


@pytest.mark.parametrize("picks", [False, True])
def test_at_the_papers_length_the_numbers_are_the_papers(picks):
    total = 120_000 if picks else 110_000
    model, _ = three_filters()
    plan = PhasePlan(model, None, 1, total, Schedule(1e-3, "constant"), None, dict)
    growth = scaled_growth(plan, 0.9, picks)
    assert growth.every == 10
    assert growth.ceiling == 1.0
    assert growth.step == pytest.approx(0.99e-4 if picks else 1e-4, rel=1e-3)  # from 1e-2 to 1, or from 0 to 1
    assert (growth.pick_ceiling, growth.kept) == ((1e-2, -1e-4) if picks else (0.0, 0.0))
    assert growth.pick_step == pytest.approx(1e-5 if picks else 0.0)


@pytest.mark.parametrize("total", [30, 400])
def test_a_short_run_still_shrinks_a_filter_a_thousandfold(total):
    model, groups = three_filters()
    plan = PhasePlan(model, None, 1, total, Schedule(0.02), None, dict)
    growth = scaled_growth(plan, 0.0, picks=False)
    growing = Growing(torch.optim.SGD(model.parameters(), lr=0.02), groups, {"0": 1}, growth)
    for step in range(total):
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        growing.param_groups[0]["lr"] = plan.schedule.rate(step, total)
        growing.step()
    first, second, third = model[0].weight.detach().flatten().tolist()
    assert (first, third) == (3.0, 2.0)
    assert 0 < abs(second) < 2e-3
