"""Law: latency is the median of what the clock said, runs alternate, and the networks are left as they were."""

import json
from itertools import accumulate, pairwise
from statistics import median

import pytest
import torch
from called_commands import called
from torch import nn

import nets.latency
from nets.commands.latency import latency as command
from nets.commands.latency import latency_table
from nets.latency import compare_latency, latency
from nets.resnet import resnet20
from nets.saving import save_model
from perspective.errors import InputError

INPUTS = torch.zeros(2, 1, 8, 8)


class Clock:
    """Time passes only where a network runs: each call moves the clock by the next of its own durations."""

    def __init__(self, monkeypatch) -> None:
        self.now = 0.0
        self.log: list[str] = []
        monkeypatch.setattr(nets.latency, "perf_counter", lambda: self.now)


class Slow(nn.Module):
    def __init__(self, clock: Clock, name: str, durations) -> None:
        super().__init__()
        self.norm, self.clock, self.name, self.durations = nn.BatchNorm2d(1), clock, name, iter(durations)
        self.seen: list[tuple[bool, bool, bool]] = []

    def forward(self, x):
        self.clock.now += next(self.durations)
        self.clock.log.append(self.name)
        contiguous = x.is_contiguous(memory_format=torch.channels_last) and x.shape[1] > 1
        self.seen.append((self.training or self.norm.training, torch.is_inference_mode_enabled(), contiguous))
        return x


def test_the_median_and_the_quantiles_leave_the_warm_up_out(monkeypatch):
    durations = [7.0, 1.0, 9.0, 2.0, 3.0, 8.0, 4.0, 6.0, 5.0, 11.0, 10.0]
    found = latency(Slow(Clock(monkeypatch), "a", [1e6, 1e5, *durations]), INPUTS, repeats=11, warmup=2)
    assert found.median == 6.0
    assert (found.low, found.high) == (2.0, 10.0)  # eleven values: the second and the last but one
    assert latency(Slow(Clock(monkeypatch), "a", [3.0]), INPUTS, repeats=1, warmup=0) == nets.latency.Latency(3, 3, 3)


def test_two_networks_take_turns_and_the_ratio_is_taken_pair_by_pair(monkeypatch):
    clock = Clock(monkeypatch)
    slowing = list(accumulate([1.0] * 9, lambda a, _: 2 * a))  # a machine that becomes slower all the time
    dense, pruned = Slow(clock, "d", [1.0, *slowing]), Slow(clock, "p", [1.0, *[t / 4 for t in slowing]])
    found = compare_latency(dense, pruned, INPUTS, repeats=9, warmup=1)
    assert (found.ratio.median, found.ratio.low, found.ratio.high) == (0.25, 0.25, 0.25)
    assert found.dense.median == median(slowing)
    assert found.pruned.median == median(slowing) / 4
    pairs = ["".join(clock.log[k : k + 2]) for k in range(0, 20, 2)]
    assert set(pairs) == {"dp", "pd"}
    assert all(a != b for a, b in pairwise(pairs))  # neither always has the warm cache


def test_the_median_of_pairs_is_not_the_ratio_of_medians(monkeypatch):
    clock = Clock(monkeypatch)
    found = compare_latency(
        Slow(clock, "d", [1.0, 2.0, 4.0]), Slow(clock, "p", [4.0, 1.0, 2.0]), INPUTS, repeats=3, warmup=0
    )
    assert found.dense.median == found.pruned.median == 2.0
    assert found.ratio.median == 0.5


@pytest.mark.parametrize("training", [True, False])
def test_modes_are_restored_and_it_runs_as_in_use(monkeypatch, training):
    model = Slow(Clock(monkeypatch), "a", [1.0] * 3).train(training)
    model.norm.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    latency(model, INPUTS, repeats=2, warmup=1)
    assert model.seen == [(False, True, False)] * 3
    assert (model.training, model.norm.training) == (training, False)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    monkeypatch.setattr(Slow, "forward", lambda *_: (_ for _ in ()).throw(RuntimeError("shape\nmore")))
    with pytest.raises(InputError, match=r"does not run .* \(shape\)"):
        latency(model, INPUTS)
    assert (model.training, model.norm.training) == (training, False)


def test_a_channels_last_network_gets_channels_last_inputs(monkeypatch):
    model = Slow(Clock(monkeypatch), "a", [1.0] * 2)
    inputs = torch.zeros(2, 3, 4, 4)
    model.first = nn.Conv2d(3, 2, 3)
    latency(model, inputs, repeats=1, warmup=0)
    latency(model.to(memory_format=torch.channels_last), inputs, repeats=1, warmup=0)
    assert [seen[2] for seen in model.seen] == [False, True]
    assert inputs.is_contiguous()


def test_a_real_network_with_more_work_takes_longer():
    small, large = resnet20(in_channels=1, width=2), resnet20(in_channels=1, width=32)
    found = compare_latency(large, small, torch.zeros(16, 1, 16, 16), repeats=5, warmup=1)
    assert found.pruned.median < found.dense.median
    assert found.ratio.median < 1
    assert 0 < found.dense.low <= found.dense.median <= found.dense.high


@pytest.mark.parametrize(
    ("inputs", "counts", "sentence"),
    [
        (INPUTS, {"repeats": 0}, "at least one repeat"),
        (INPUTS, {"warmup": -1}, "no negative warm-up"),
        (INPUTS[:0], {}, "empty"),
        ((), {}, "empty"),
        (INPUTS, {}, "faster than the clock"),
    ],
)
def test_what_cannot_be_timed_is_refused(monkeypatch, inputs, counts, sentence):
    with pytest.raises(InputError, match=sentence):
        latency(Slow(Clock(monkeypatch), "a", [0.0] * 99), inputs, **counts)


invoke = called(command)


@pytest.fixture
def run_folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"data": "digits", "data_dir": None}))
    save_model(resnet20(in_channels=1, width=2), tmp_path / "model")
    return tmp_path


def test_the_command_times_both_networks_at_every_batch_size(run_folder, monkeypatch):
    with pytest.raises(InputError, match="pruned nothing"):
        invoke(run_folder)
    save_model(resnet20(in_channels=1, width=4), run_folder / "dense")
    flags = ("--batch", "1,12", "--repeats", 3, "--warmup", 1)
    content = json.loads(invoke(run_folder, *flags, "--json").stdout)
    assert [row["batch"] for row in content["rows"]] == [1, 12]
    for row in content["rows"]:
        for name in ("dense", "pruned", "ratio"):
            assert 0 < row[name]["low"] <= row[name]["median"] <= row[name]["high"]
    assert (content["device"], content["repeats"], content["threads"]) == ("cpu", 3, torch.get_num_threads())
    widths = []

    def record(dense, pruned, inputs, repeats, warmup):
        widths.append((dense.conv1.out_channels, pruned.conv1.out_channels, len(inputs), repeats, warmup))
        return nets.latency.LatencyComparison(
            nets.latency.Latency(0.002, 0.001, 0.003),
            nets.latency.Latency(0.001, 0.0005, 0.0015),
            nets.latency.LatencyRatio(0.5, 0.4, 0.6),
        )

    monkeypatch.setattr(nets.latency, "compare_latency", record)
    table = invoke(run_folder).stdout
    assert widths == [(4, 2, 1, 30, 5), (4, 2, 128, 30, 5)]
    assert "2.000 (1.000 to 3.000)" in table
    assert "0.500 (0.400 to 0.600)" in table
    assert "either may be faster" not in table
    row = {name: {"median": 0.9, "low": 0.8, "high": 1.1} for name in ("dense", "pruned", "ratio")}
    assert "either may be faster" in latency_table({**content, "rows": [{"batch": 1, **row}]})


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--batch", "1,x"], "separated by commas"),
        (["--batch", "0"], "separated by commas"),
        (["--device", "tpu"], "cpu, cuda"),
    ],
)
def test_bad_flags_are_refused(run_folder, flags, sentence):
    with pytest.raises(InputError, match=sentence):
        invoke(run_folder, *flags)
