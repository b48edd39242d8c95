"""Run the cells of a sweep, some at a time, each as a process of its own: one that fails, or is killed, leaves the others alone.

A cell that has finished is not run again, one that was interrupted continues from its last checkpoint. What a cell prints
goes to FOLDER.log beside its run folder; while it lives that file is locked, so that no other sweep runs the same cell.
"""

import fcntl
import itertools
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

from joblib import Parallel, delayed

from nets.settings import same_settings
from nets.sweeps.grid import Cell
from nets.training.run_folder import read_json
from perspective.errors import InputError

INTERRUPTED = 130
GRACE = 10.0  # seconds for a cell to end by itself


@final
@dataclass(frozen=True)
class Outcome:
    """sentence: what went wrong, "" where the cell has its result.json and report; ran: False where it had them before."""

    cell: Cell
    sentence: str
    ran: bool = True


@final
@dataclass(frozen=True)
class Plan:
    """out: folder of the run folders; source: command-line words for the dense network; jobs: cells at a time;
    devices: "cpu", or "cuda:K", one for each job in turn; None: as the cells' own --device says."""

    out: Path
    source: tuple[str, ...]
    jobs: int
    devices: tuple[str, ...] | None = None

    @property
    def threads(self) -> int:
        """A job's share of the cores."""
        return max(1, len(os.sched_getaffinity(0)) // self.jobs)


def make_folders(cells: Sequence[Cell], out: Path) -> None:
    """A run folder for each cell; InputError where they cannot be written."""
    try:
        for cell in cells:
            (out / cell.name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {out} cannot be written ({error.strerror}); choose another --out") from error


def teller(count: int) -> Callable[[Outcome], None]:
    """One line on standard error for each of `count` cells that ends."""
    numbers = itertools.count(1)

    def tell(outcome: Outcome) -> None:
        end = outcome.sentence or ("done" if outcome.ran else "done before")
        print(f"[{next(numbers)}/{count}] {outcome.cell.name}: {end}", file=sys.stderr)

    return tell


def run_cells(cells: Sequence[Cell], plan: Plan, tell: Callable[[Outcome], None]) -> list[Outcome]:
    """Every cell's outcome, in the cells' order; `tell` is called as they end. KeyboardInterrupt, and the SIGTERM that a batch
    system sends, stop all of them."""
    free: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    for job in range(plan.jobs):
        free.put(None if plan.devices is None else plan.devices[job % len(plan.devices)])
    living = Living()

    def run(cell: Cell) -> Outcome:
        device = free.get()
        try:
            return _run(cell, plan, device, living)
        finally:
            free.put(device)

    found: dict[str, Outcome] = {}
    with _terminated_is_interrupted():  # from before the first process is started
        try:
            ended = Parallel(n_jobs=plan.jobs, backend="threading", return_as="generator_unordered", batch_size=1)(
                delayed(run)(cell) for cell in cells
            )
            for outcome in ended:
                found[outcome.cell.name] = outcome
                tell(outcome)
        finally:
            living.end()
    return [found[cell.name] for cell in cells]


@final
class Living:
    """The processes of a sweep, which end together when it is interrupted."""

    def __init__(self) -> None:
        self._children: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self.ended = False

    def start(self, words: list[str], log: int, environment: dict[str, str]) -> subprocess.Popen[bytes] | None:
        """A new process; None where the sweep is ending."""
        with self._lock:
            if self.ended:
                return None
            given = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "env": environment}
            self._children.append(subprocess.Popen(words, **given))
            return self._children[-1]

    def end(self) -> None:
        """Interrupt what lives, wait for its end, and start nothing any more."""
        with self._lock:
            self.ended = True
        living = [child for child in self._children if child.poll() is None]
        for child in living:
            child.send_signal(signal.SIGINT)
        for child in living:
            try:
                child.wait(GRACE)
            except subprocess.TimeoutExpired:  # started in the background of a script, where SIGINT is ignored
                child.terminate()
                child.wait()


@contextmanager
def _terminated_is_interrupted() -> Iterator[None]:
    """SIGTERM is a KeyboardInterrupt inside; only the main thread may ask for that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(cell: Cell, plan: Plan, device: str | None, living: Living) -> Outcome:
    folder = plan.out / cell.name
    begun = (folder / "config.json").is_file()
    try:
        if begun:  # the same flags as before?
            same_settings(cell.command, cell.settings, read_json(folder / "config.json"), folder)
    except InputError as error:
        return Outcome(cell, str(error), ran=False)
    if all((folder / name).is_file() for name in ("result.json", "report.html")):  # a cell may end between the two
        return Outcome(cell, "", ran=False)
    with _locked(plan.out / f"{cell.name}.log") as log:
        if log is None:
            return Outcome(cell, "another sweep is running this cell; wait for it to end", ran=False)
        words = cell.arguments(plan.source, folder, begun)
        child = living.start([sys.executable, "-m", "perspective", *words], log, _environment(plan, device))
        status = INTERRUPTED if child is None else child.wait()
    return Outcome(cell, "" if status == 0 else _sentence(plan.out / f"{cell.name}.log", status))


@contextmanager
def _locked(path: Path) -> Iterator[int | None]:
    """The log, opened for appending and locked until the last process that writes to it has ended; None: locked already."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield log
    except BlockingIOError:
        yield None
    finally:
        os.close(log)


def _environment(plan: Plan, device: str | None) -> dict[str, str]:
    found = {**os.environ, "OMP_NUM_THREADS": str(plan.threads)}
    if device is not None and device.startswith("cuda:"):
        seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        number = int(device.removeprefix("cuda:"))
        if seen and number >= len(seen):
            raise InputError(f"--devices {device}, but CUDA_VISIBLE_DEVICES shows {len(seen)} GPUs; count from cuda:0")
        found["CUDA_VISIBLE_DEVICES"] = seen[number] if seen else str(number)
    return found


def _sentence(log: Path, status: int) -> str:
    """What the cell said last, or how it ended where it said nothing."""
    if status < 0:
        return f"ended by {signal.Signals(-status).name} (for want of memory?); start the same command again to go on, see {log}"
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    if status in (2, 3) and last.startswith("perspective: "):
        return last.removeprefix("perspective: ").removeprefix("check failed: ")
    if status == INTERRUPTED:
        return "interrupted; start the same command again to go on"
    return f"ended with exit status {status}; see {log}"
