"""Layers in parallel: one spawned process a layer, one thread each; a process that dies costs its own layer only.

A finished layer's JSON is on disk before anyone is told, so whoever is killed loses the layers in progress and no others.
A child whose parent is gone ends itself.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, final

from perspective.errors import CheckFailed, InputError
from solvers.certify import LayerJob, certify_layer

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
@final
class Outcome:
    """One job's end: its JSON object, or a sentence saying why there is none."""

    name: str
    content: dict[str, Any] | None
    error: str | None


def run_jobs(
    jobs: Sequence[LayerJob], processes: int, started: Callable[[str], None], done: Callable[[Outcome], None]
) -> list[Outcome]:
    """All jobs, at most `processes` at a time, the outcomes in the order of the jobs; `started` and `done` are told as it
    happens, in this process. An exception here (Ctrl-C) ends the children."""
    if processes < 1:
        raise InputError(f"processes is {processes}; it must be at least 1")
    context = multiprocessing.get_context("spawn")
    waiting = list(jobs)
    running: dict[Connection, tuple[LayerJob, Any]] = {}
    outcomes: dict[str, Outcome] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                job = waiting.pop(0)
                here, there = context.Pipe(duplex=False)
                process = context.Process(target=_child, args=(job, there), name=job.name, daemon=True)
                with _one_thread():
                    process.start()
                there.close()  # so that the end of the child is the end of the pipe
                running[here] = (job, process)
                started(job.name)
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                job, process = running.pop(ready)
                outcomes[job.name] = _receive(ready, job, process)
                done(outcomes[job.name])
    finally:
        for _, process in running.values():
            process.terminate()
        for connection, (_, process) in running.items():
            process.join()
            connection.close()
    return [outcomes[job.name] for job in jobs]


def _receive(connection: Connection, job: LayerJob, process: Any) -> Outcome:
    try:
        content, error = connection.recv()
    except EOFError:
        process.join()
        content, error = None, f"its process ended with status {process.exitcode} and no answer; too little memory?"
    process.join()
    connection.close()
    return Outcome(job.name, content, error)


def _child(job: LayerJob, connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends its children
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        connection.send((certify_layer(job), None))
    except (InputError, CheckFailed) as error:
        connection.send((None, str(error)))


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The children start with one thread each: the processes are the parallelism."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
