"""Law: two processes that share every batch train the network of one process, and hold the same bits as each other."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from several_processes import ROOT, environment, run_two_ranks
from torch.distributed.tensor.debug import CommDebugMode
from trained_by_ranks import fingerprint, train_one_epoch

from nets.saving import load
from nets.settings import new_settings
from nets.train import train
from nets.training import phase as phases
from nets.training import ranks
from nets.training.epoch import _parts
from nets.training.ranks import ALONE
from perspective import InputError
from perspective.__main__ import main


def refuse():
    raise InputError("no; do something else")


def run_epochs(rank, folder):
    """All epochs of this file's tests, wrong ones last; prints what this rank found."""
    hashes, calls = {}, {}

    def trained(name, **given):
        state = train_one_epoch(group, **given)
        hashes[name] = fingerprint(state)
        if rank == 0:
            save_file(state, folder / f"{name}.safetensors")

    def count(name):
        def watch(optimizer):
            step, calls[name] = optimizer.step, 0

            def counted():
                with CommDebugMode() as seen:
                    step()
                calls[name] += seen.get_total_counts()

            optimizer.step = counted

        return watch

    with ranks.joined_ranks("cpu") as group:
        trained("plain", prox=False, watch=count("plain"))
        trained("prox", watch=count("prox"))
        trained("accumulate", accumulate=4)
        with CommDebugMode() as seen:
            torch.distributed.all_reduce(torch.ones(1))
        calls["one all_reduce"] = seen.get_total_counts()
        settled = group.settle(lambda: {"rank": rank, "channels": [["conv", 3]]})
        with pytest.raises(InputError) as refused:
            group.settle(refuse)
        kept, ranks.with_shared_statistics = ranks.with_shared_statistics, lambda model: model
        trained("own statistics")
        ranks.with_shared_statistics = kept
        ranks.DistributedDataParallel = lambda model: model
        trained("no averaging")
    print(json.dumps({"hashes": hashes, "calls": calls, "settled": settled, "refused": str(refused.value)}))


@pytest.fixture(scope="module")
def epochs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    ended = run_two_ranks(run_epochs, folder)
    assert ended.status == (0, 0), ended.err
    return folder, [json.loads(text) for text in ended.out]


def states(epochs, name):
    return load_file(epochs[0] / f"{name}.safetensors")


def furthest(first, second):
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.mark.parametrize("name", ["plain", "prox"])
def test_two_ranks_train_the_network_of_one(epochs, name):
    alone, shared = train_one_epoch(ALONE, prox=name == "prox"), states(epochs, name)
    assert alone.keys() == shared.keys()
    assert furthest(alone, shared) <= 1e-10
    zeros = {k: v == 0 for k, v in alone.items()}
    assert all(torch.equal(zeros[k], shared[k] == 0) for k in zeros)
    assert bool(zeros["3.weight"].any()) == (name == "prox")
    assert not zeros["3.weight"].all()


def test_both_ranks_hold_the_same_bits(epochs):
    first, second = (said["hashes"] for said in epochs[1])
    for name in ("plain", "prox", "accumulate"):
        assert first[name] == second[name]
    assert first["plain"] == fingerprint(states(epochs, "plain"))
    assert first["plain"] != first["prox"]


def test_the_prox_needs_no_communication(epochs):
    for said in epochs[1]:
        assert said["calls"] == {"plain": 0, "prox": 0, "one all_reduce": 1}


def test_rank_0_decides_and_its_sentence_is_everybodys(epochs):
    for said in epochs[1]:
        assert said["settled"] == {"rank": 0, "channels": [["conv", 3]]}
        assert said["refused"] == "no; do something else"
    assert ALONE.settle(lambda: (1, 2)) == (1, 2)
    with pytest.raises(InputError, match="do something"):
        ALONE.settle(lambda: (_ for _ in ()).throw(InputError("no; do something else")))


@pytest.mark.parametrize("mutant", ["own statistics", "no averaging"])
def test_a_wrong_sharing_is_seen(epochs, mutant):
    first, second = (said["hashes"] for said in epochs[1])
    apart = furthest(train_one_epoch(ALONE), states(epochs, mutant))
    assert apart > 1e-4 or first[mutant] != second[mutant]
    assert apart > 1e-6


@pytest.mark.parametrize("images", [2, 3, 5, 16, 17, 18, 31, 100])
def test_every_rank_computes_as_many_parts(images):
    """Else one rank would wait for a gradient that the other never sends."""
    for world in (1, 2, 3):
        for asked in (1, 2, 4, 7):
            counts = {_parts(asked, images, world) for _ in range(world)}
            assert len(counts) == 1
            (count,) = counts
            assert 1 <= count <= asked
            shares = [len(range(rank, images, world)) for rank in range(world)]
            smallest = min(len(part) for n in shares for part in torch.zeros(n).tensor_split(count))
            assert smallest >= min(2, *shares)


GIVEN = [
    *("train", "--net", "resnet20", "--width", "3", "--data", "digits", "--method", "spr", "--budget", "macs=0.5"),
    *("--epochs", "1", "--finetune-epochs", "1", "--batch-size", "512", "--lr", "0.01", "--json"),
]


def command_line(rank, folder, victim, phase, *words):
    """`perspective WORDS`; in `phase`, rank 0 dies when it is to write the checkpoint, or rank 1 when it is to validate."""
    validate, write, start = phases.accuracy, phases.write_checkpoint, phases.EpochBars.start
    reached = []

    def die_if(it_is_time):
        if it_is_time and phase == reached[-1]:
            os.kill(os.getpid(), signal.SIGKILL)

    def started(bars, name, *rest):
        reached.append(name)
        return start(bars, name, *rest)

    def write_or_die(*given):
        die_if(victim == rank == 0)
        write(*given)

    def validate_or_die(*given):
        die_if(victim == rank == 1)
        return validate(*given)

    phases.accuracy, phases.write_checkpoint, phases.EpochBars.start = validate_or_die, write_or_die, started
    sys.argv = ["perspective", *words]
    main()


def weights(folder):
    return load(folder).state_dict()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """By torchrun itself."""
    out = tmp_path_factory.mktemp("torchrun") / "whole"
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "perspective",
    ]
    done = subprocess.run(
        [*launch, *GIVEN, "--out", str(out)],
        **{"capture_output": True, "text": True, "timeout": 240, "check": False, "cwd": ROOT, "env": environment()},
    )
    assert done.returncode == 0, done.stderr
    return out, done


def test_torchrun_prints_one_object_and_trains_the_same_network(undisturbed, tmp_path):
    out, done = undisturbed
    result = json.loads(done.stdout)
    assert result == json.loads((out / "result.json").read_text())
    assert result["pruned"]["macs"] <= 0.5 * result["dense"]["macs"]
    assert "Warning" not in done.stderr
    given = {
        "net": "resnet20",
        "width": 3,
        "data": "digits",
        "method": "none",
        "epochs": 1,
        "batch_size": 512,
        "lr": 0.01,
    }
    train(new_settings("train", given), tmp_path / "alone")
    assert furthest(weights(tmp_path / "alone" / "model"), weights(out / "dense")) <= 1e-4  # float32, three steps


def test_a_killed_rank_ends_the_others_and_resuming_gives_the_same_bits(undisturbed, tmp_path):
    out = tmp_path / "run"
    first = run_two_ranks(command_line, tmp_path / "first", 0, "dense", *GIVEN, "--out", str(out))
    assert first.status == (-9, 3), first.err
    second = run_two_ranks(command_line, tmp_path / "second", 1, "regularise", *GIVEN, "--out", str(out), "--resume")
    assert second.status == (3, -9), second.err
    for text in (first.err[1], second.err[0]):
        last = text.strip().splitlines()[-1]
        assert last.startswith("perspective: check failed: another process of this training has stopped")
        assert "--resume" in last
        assert "Traceback" not in text
    last = run_two_ranks(command_line, tmp_path / "last", None, None, *GIVEN, "--out", str(out), "--resume")
    assert last.status == (0, 0), last.err
    assert last.out[1] == ""
    assert json.loads(last.out[0])["pruned"] == json.loads(undisturbed[1].stdout)["pruned"]
    for part in ("dense", "model"):
        whole, again = weights(undisturbed[0] / part), weights(out / part)
        assert all(torch.equal(whole[name], again[name]) for name in whole)
