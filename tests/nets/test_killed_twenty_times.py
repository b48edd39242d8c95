"""Law: a training killed with SIGKILL again and again, at moments nobody chose, ends with the bits of an undisturbed one."""

import json
import os
import pkgutil
import random
import signal
import sys
import time

import pytest
import torch
from several_processes import SERVER

from nets.checkpoint import newest
from nets.saving import load
from nets.settings import new_settings, same_settings
from nets.train import train
from nets.training.run_folder import read_json

GIVEN = {
    "net": "resnet20",
    "data": "digits",
    "method": "spr",
    "width": 3,
    "epochs": 2,
    "finetune_epochs": 2,
    "batch_size": 512,
    "budget": "macs=0.5",
}


def begin_or_resume(out, die_in):
    """One life of the training: what `perspective train --out OUT [--resume]` does. die_in: "module.function" that kills."""
    sys.stderr = out.with_suffix(".log").open("a", buffering=1)
    torch.set_num_threads(1)
    if die_in is not None:
        module, _, function = die_in.rpartition(".")
        setattr(pkgutil.resolve_name(module), function, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    if (out / "config.json").is_file():
        train(same_settings("train", {}, read_json(out / "config.json"), out), out, resume=True)
    else:
        train(new_settings("train", GIVEN), out)


def live(out, delay=None, die_in=None):
    """One life, ended by SIGKILL after `delay` seconds or in `die_in`; was it killed?"""
    process = SERVER.Process(target=begin_or_resume, args=(out, die_in))
    process.start()
    process.join(240 if delay is None else delay)
    ended = process.exitcode is not None
    assert ended or delay is not None, "the training does not end"
    process.kill()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL), out.with_suffix(".log").read_text()
    return process.exitcode != 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a run that nobody killed, and its seconds."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    assert live(out.with_name("warm"), die_in="nets.train.dense_network")  # loads and derives once, not timed
    start = time.perf_counter()
    assert not live(out)
    return out, time.perf_counter() - start


def metrics(out):
    """metrics.jsonl without the seconds."""
    parsed = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in parsed]


def assert_same_bits(whole, again):
    for part in ("dense", "model"):
        first, second = load(whole / part).state_dict(), load(again / part).state_dict()
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert metrics(whole) == metrics(again)
    results = [read_json(out / "result.json") for out in (whole, again)]
    assert results[0].keys() == results[1].keys()
    assert all(results[0][name] == results[1][name] for name in results[0].keys() - {"seconds", "environment"})
    assert {path.name for path in whole.iterdir()} == {path.name for path in again.iterdir()}  # nothing is left over


def place(out):
    """How far a killed run had come: phase and epoch of its newest checkpoint."""
    found = newest(out / "checkpoint")
    state = {"phase": "before", "epoch": 0} if found is None else json.loads((found / "state.json").read_text())
    return state["phase"], state["epoch"]


def kill(undisturbed, folder, times, seed):
    """Runs killed at random moments, `times` in all; each that comes to its end is compared. Returns where they were killed."""
    (whole, length), draw, places, runs = undisturbed, random.Random(seed), [], 0
    while True:
        out = folder / f"run{runs}"
        while live(out, draw.uniform(0.02, 1) * length if len(places) < times else None):
            places.append(place(out))
        assert_same_bits(whole, out)
        runs += 1
        if len(places) == times:
            return places, runs


def test_killed_four_times(undisturbed, tmp_path):
    places, _ = kill(undisturbed, tmp_path, 4, seed=1)
    assert len(places) == 4


@pytest.mark.slow
def test_killed_twenty_times(undisturbed, tmp_path):
    places, runs = kill(undisturbed, tmp_path, 20, seed=2)
    print(f"{undisturbed[1]:.1f} s undisturbed; {runs} runs; killed after", *(f"{p} {e}" for p, e in places), sep=", ")
    assert len({phase for phase, _ in places}) >= 2


BETWEEN = [
    "os.replace",  # config.json is renamed
    "nets.training.dense.save_model",
    "pathlib.Path.chmod",  # save_model has made its temporary folder
    "nets.train.remove_channels",
    "nets.train.reestimate_statistics",
    "pathlib.Path.chmod",
    "nets.training.result.write_json",
    "nets.training.result.write_report",
]


def test_killed_between_the_phases_and_with_a_truncated_checkpoint(undisturbed, tmp_path):
    """While config.json, the dense network, the removal, the smaller network, result.json, and the report are being made."""
    out = tmp_path / "run"
    for moment in BETWEEN:
        assert live(out, die_in=moment), moment
        if moment == "nets.train.remove_channels":  # a disk that lost the end of the newest checkpoint, too
            assert place(out) == ("regularise", GIVEN["epochs"])
            tensors = newest(out / "checkpoint") / "tensors.safetensors"
            tensors.write_bytes(tensors.read_bytes()[:-1000])
            assert live(out, die_in=moment)
            said = out.with_suffix(".log").read_text()
            assert f"checkpoint {tensors.parent} is damaged" in said
            assert "the one before it is used" in said
    assert not live(out)
    assert_same_bits(undisturbed[0], out)
