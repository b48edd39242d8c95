"""Our side of the pipe to a peer: one long-lived process a peer, ended when it does not come back in time."""

import json
import os
import select
import subprocess
from pathlib import Path
from typing import Any, final

import numpy as np

from solvers import LayerProblem

WORKER = Path(__file__).with_name("peer_models.py")
START_SECONDS = 300.0  # imports and compilation
GRACE_SECONDS = 30.0  # beyond the time limit it was given


@final
class Peer:
    """`python` runs the worker; `version` is what it said, `absent` its reason where it cannot take part."""

    def __init__(self, name: str, python: str) -> None:
        self.name, self.python = name, python
        self.version, self.absent = "", ""
        self._process: subprocess.Popen[str] | None = None
        self._start()

    def solve(self, data: Path, gap: float, time_limit: float) -> dict[str, Any]:
        """The worker's answer; status "killed" where none came, and a new worker for the next question."""
        if self._process is None:
            self._start()
        question = {"data": str(data), "gap": gap, "time_limit": time_limit}
        reply = self._ask(json.dumps(question), time_limit + GRACE_SECONDS)
        if reply is None:
            self.close()
            return {"status": "killed", "weights": None, "lower_bound": None, "seconds": time_limit, "nodes": 0}
        return reply

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()  # closes the pipes and waits
            self._process = None

    def _start(self) -> None:
        threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
        self._process = subprocess.Popen(
            [self.python, str(WORKER), self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **threads},
        )
        said = self._ask(None, START_SECONDS) or {"absent": "the worker did not start"}
        self.version, self.absent = said.get("ready", ""), said.get("absent", "")
        if self.absent:
            self.close()

    def _ask(self, line: str | None, seconds: float) -> dict[str, Any] | None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if line is not None:
                process.stdin.write(line + "\n")
                process.stdin.flush()
            # an answer is one line, written at once
            ready, _, _ = select.select([process.stdout], [], [], seconds)
            text = process.stdout.readline() if ready else ""
        except OSError:
            return None
        return json.loads(text) if text else None


def write_instance(problem: LayerProblem, path: Path) -> None:
    """The program as the workers read it."""
    quadratic = problem.regulariser.quadratic
    assert quadratic is not None
    np.savez(
        path,
        X=problem.X,
        y=problem.Y,
        groups=problem.labels,
        ridge=problem.strength * quadratic[0],
        price=problem.strength * problem.regulariser.price,
        bound=np.float64(problem.regulariser.bound or np.inf),
    )
