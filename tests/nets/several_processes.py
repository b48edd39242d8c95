"""Real processes that a test may kill, forked from one that has loaded torch and never trained: they cost no imports."""

import multiprocessing
import os
import socket
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["nets.train", "nets.commands.train", "sklearn.datasets", "perspective.__main__", "perspective.catalogue", "pytest"]
)


@dataclass(frozen=True)
class Ended:
    """Exit status (minus the signal), standard output and standard error of the two ranks."""

    status: tuple[int, int]
    out: tuple[str, str]
    err: tuple[str, str]


def run_two_ranks(target, folder: Path, *arguments) -> Ended:
    """Two processes that call target(rank, folder, *arguments) as torchrun would; `folder` takes what they print."""
    folder.mkdir(parents=True, exist_ok=True)
    found = environment()
    ranks = [SERVER.Process(target=_be_rank, args=(target, rank, found, folder, arguments)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(240)
        if process.is_alive():
            for other in ranks:
                other.kill()
            raise AssertionError(
                f"a rank waits forever: {(folder / 'err0').read_text()}{(folder / 'err1').read_text()}"
            )
    texts = [tuple((folder / f"{name}{rank}").read_text() for rank in range(2)) for name in ("out", "err")]
    return Ended(tuple(process.exitcode for process in ranks), *texts)


def environment() -> dict[str, str]:
    """What torchrun would set for two processes on this machine, with a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **found}


def _be_rank(target, rank: int, found: dict[str, str], folder: Path, arguments: tuple) -> None:
    os.environ.update(found, RANK=str(rank), LOCAL_RANK=str(rank))
    os.chdir(ROOT)
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"{name}{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1) for stream in (1, 2))
    warnings.simplefilter("error", UserWarning)
    target(rank, folder, *arguments)
