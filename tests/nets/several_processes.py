"""Start the ranks of one training as real processes, without torchrun: so that a test can kill one of them."""

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

# torch is loaded once and both ranks are forked from there, before any of its threads is started
LAUNCHER = """
import os, sys
import torch
{imports}
children = []
for rank in range(2):
    child = os.fork()
    if child == 0:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{{sys.argv[1]}}/{{name}}{{rank}}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        try:
            sys.exit(run(rank))
        finally:
            sys.stdout.flush()
    children.append(child)
statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(*statuses)
"""


@dataclass(frozen=True)
class Ended:
    """Exit status (minus the signal), standard output and standard error of the two ranks."""

    status: tuple[int, int]
    out: tuple[str, str]
    err: tuple[str, str]


def run_two_ranks(script: str, folder: Path, *arguments: str) -> Ended:
    """Two processes that call `run(rank)` of `script`, whose sys.argv[2:] are `arguments`; `folder` takes what they print."""
    folder.mkdir(parents=True, exist_ok=True)
    code = LAUNCHER.format(imports=script)
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code, str(folder), *arguments],
        **{"capture_output": True, "text": True, "timeout": 240, "check": False, "cwd": ROOT, "env": environment()},
    )
    assert done.returncode == 0, done.stderr
    status = tuple(int(word) for word in done.stdout.split())
    texts = [tuple((folder / f"{name}{rank}").read_text() for rank in range(2)) for name in ("out", "err")]
    return Ended(status, *texts)


def environment() -> dict[str, str]:
    """What torchrun would set for two processes on this machine, with a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **found}
