"""Training commands keep what they free: the same blocks again cost no page faults; and users who tune malloc are left alone."""

import os
import platform
import subprocess
import sys

import pytest

from nets.training.memory import SAID, keep_freed_memory

AGAIN = """
import resource, sys
import torch
from nets.training.memory import keep_freed_memory

kept = keep_freed_memory() if sys.argv[1] == "keep" else None
pages = 4 * 40 * 2**20 // resource.getpagesize()

def blocks():
    return [torch.zeros(10 * 2**20) for _ in range(4)]  # 40 MB each: glibc never learns to keep blocks above 32 MB

blocks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    blocks()
print(kept, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / (20 * pages))
"""

on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is asked to keep memory")


def run(word, **said):
    clean = {name: value for name, value in os.environ.items() if name not in SAID}
    done = subprocess.run([sys.executable, "-c", AGAIN, word], env=clean | said, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kept, share = done.stdout.split()
    return kept, float(share)


@on_glibc
def test_what_was_freed_is_taken_again_without_faults():
    kept, share = run("keep")
    assert kept == "True"
    assert share < 0.1, "share of the pages of each round that fault"
    assert run("leave")[1] > 2 * max(share, 0.1), "without it they fault, so the measurement sees faults"


@pytest.mark.parametrize("name", SAID)
def test_an_allocator_that_the_user_tuned_is_left_alone(monkeypatch, name):
    monkeypatch.setenv(name, "glibc.malloc.check=0" if name == "GLIBC_TUNABLES" else "100000")
    assert keep_freed_memory() is False


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False


@pytest.mark.parametrize("command", ["train", "demo_train"])
def test_commands_that_train_ask_for_it(monkeypatch, tmp_path, command):
    import nets.commands.train as commands
    import nets.train

    asked = []
    monkeypatch.setattr(commands, "keep_freed_memory", lambda: asked.append(True))
    monkeypatch.setattr(nets.train, "train", lambda *_: (_ for _ in ()).throw(KeyError(len(asked))))
    call = {"train": lambda: commands.train(out=tmp_path / "run"), "demo_train": lambda: commands.demo_train(tmp_path)}
    with pytest.raises(KeyError, match="1"):  # asked once, before the training began
        call[command]()
