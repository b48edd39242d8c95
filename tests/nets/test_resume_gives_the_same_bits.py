"""A real process killed with SIGKILL in every phase and resumed ends with the weights of the run that nobody disturbed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nets.saving import load
from nets.settings import new_settings, same_settings
from nets.train import train
from nets.training.run_folder import read_json
from perspective import CheckFailed, InputError

GIVEN = {
    "net": "resnet20",
    "data": "digits",
    "method": "spr",
    "width": 4,
    "epochs": 2,
    "finetune_epochs": 2,
    "batch_size": 128,
    "strength": 2000.0,
}

# the process kills itself at a moment that the test names, so that no clock decides
KILLED = """
import os, signal, sys
import nets.checkpoint, nets.training.phase
from nets.commands.train import train
from pathlib import Path

moment, phase, epoch = sys.argv[1], sys.argv[2], int(sys.argv[3])
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
write = nets.training.phase.write_checkpoint

def write_and_die(folder, snapshot):
    here = (snapshot.phase, snapshot.epoch) == (phase, epoch)
    if here and moment == "before the checkpoint":
        kill()
    if here and moment == "in the checkpoint":
        Path.rename = lambda *_: kill()
    write(folder, snapshot)
    if here:
        kill()

nets.training.phase.write_checkpoint = write_and_die
train(out=Path(sys.argv[4]), resume=sys.argv[5] == "resume", **eval(sys.argv[6]))
"""


def run_until_killed(out, moment, phase, epoch, resume):
    given = {} if resume else GIVEN
    arguments = [moment, phase, str(epoch), str(out), "resume" if resume else "new", repr(given)]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def weights(out):
    return load(out / "model").state_dict()


def lines(out):
    """metrics.jsonl without the seconds."""
    parsed = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in parsed]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, train(new_settings("train", GIVEN), out)


def resumed(out):
    return train(same_settings("train", {}, read_json(out / "config.json"), out), out, resume=True)


def test_killed_in_every_phase(undisturbed, tmp_path):
    whole, result = undisturbed
    out = tmp_path / "killed"
    run_until_killed(out, "before the checkpoint", "dense", 2, resume=False)
    assert len(lines(out)) == 2  # the line of the lost epoch; it is cut on resume
    run_until_killed(out, "in the checkpoint", "regularise", 1, resume=True)
    run_until_killed(out, "after the checkpoint", "finetune", 1, resume=True)
    again = resumed(out)
    first, second = weights(whole), weights(out)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert lines(whole) == lines(out)
    for part in ("dense", "pruned", "layers", "strength", "equality"):
        assert again[part] == result[part]


def test_the_run_pruned_and_says_so(undisturbed):
    out, result = undisturbed
    assert result["pruned"]["macs"] < result["dense"]["macs"]
    assert result["pruned"]["params"] < result["dense"]["params"]
    assert result["equality"]["max_abs_logit_difference"] <= 1e-4
    assert sum(layer["after"] for layer in result["layers"]) < sum(layer["before"] for layer in result["layers"])
    regularised = [line for line in lines(out) if line["phase"] == "regularise"]
    assert sum(regularised[-1]["surviving"].values()) < sum(regularised[-1]["channels"].values())
    assert set(os.listdir(out)) >= {"config.json", "metrics.jsonl", "checkpoint", "model", "report.html", "result.json"}


def test_same_seed_same_bits_and_another_seed_others(undisturbed, tmp_path):
    whole, _ = undisturbed
    train(new_settings("train", GIVEN), tmp_path / "same")
    first, second = weights(whole), weights(tmp_path / "same")
    assert all(torch.equal(first[name], second[name]) for name in first)
    dense = load(whole / "dense").state_dict()
    short = {**GIVEN, "method": "none", "seed": 1}
    train(new_settings("train", short), tmp_path / "other")
    assert not torch.equal(dense["conv1.weight"], weights(tmp_path / "other")["conv1.weight"])


def test_a_finished_run_is_not_repeated(undisturbed):
    out, result = undisturbed
    before = (out / "result.json").stat().st_mtime_ns
    assert resumed(out) == result
    assert (out / "result.json").stat().st_mtime_ns == before


def test_a_folder_in_use_is_not_overwritten(undisturbed):
    out, _ = undisturbed
    with pytest.raises(InputError, match="not empty"):
        train(new_settings("train", GIVEN), out)


def test_resuming_with_another_setting_is_refused(undisturbed):
    out, _ = undisturbed
    with pytest.raises(InputError, match="started with --epochs 2, not 3"):
        same_settings("train", {"epochs": 3}, read_json(out / "config.json"), out)


def test_without_strength_nothing_is_pruned(tmp_path):
    given = {**GIVEN, "strength": 0.0, "m_scale": 0.5, "epochs": 1, "finetune_epochs": 0}
    result = train(new_settings("train", given), tmp_path / "free")
    assert result["pruned"]["macs"] == result["dense"]["macs"]
    penalties = [line["penalty"] for line in lines(tmp_path / "free")]
    assert penalties == [None, None]  # weights lie outside half of the box: infinite, which JSON has no word for


def test_a_run_that_diverges_stops_with_the_step(tmp_path):
    given = {**GIVEN, "method": "none", "lr": 1e20, "finetune_lr": 0.1, "epochs": 1}
    with pytest.raises(CheckFailed, match=r"step \d+ of epoch 1 of the dense phase"):
        train(new_settings("train", given), tmp_path / "wild")
    assert not Path(tmp_path / "wild" / "result.json").exists()
