"""What is a training step worth when the process keeps the memory it frees (nets/training/memory.py)?

python -m benchmarks.kept_memory [--rounds 7] [--steps 15] [--out FOLDER]

ResNet-20, batch 128, SGD, one thread on the CPU, as nets/training/epoch.py takes a step. The setting holds for a whole process,
so each measurement is a process of its own; the two kinds alternate, and each round's ratio is of two processes that followed
one another. A process's figure is the median of its steps, after five untimed ones; faults are minor page faults a step.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.batch_norm import DTYPES, spread, stepper, timed
from benchmarks.environment import command_line, environment, keep
from nets.training.memory import SAID, keep_freed_memory

WORKS = {"bfloat16, fused normalisation": ("bfloat16", True), "float32": ("float32", False)}
HEAD = "| step | own, ms | kept, ms | kept / own | page faults a step, own | kept | largest size, MB, own | kept |"


def measure(dtype: str, fused: bool, kept: bool, steps: int) -> dict[str, float]:
    """In this process."""
    import torch

    torch.set_num_threads(1)
    if kept and not keep_freed_memory():
        raise SystemExit(f"this C library takes no such setting, or the environment says one of {', '.join(SAID)}")
    step = stepper(16, DTYPES[dtype], fused)
    for _ in range(5):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF)
    seconds = [timed(step)[0] for _ in range(steps)]
    after = resource.getrusage(resource.RUSAGE_SELF)
    faults = (after.ru_minflt - before.ru_minflt) / steps
    return {"ms": 1e3 * statistics.median(seconds), "faults": faults, "megabytes": after.ru_maxrss / 1024}


def in_a_process(dtype: str, fused: bool, kept: bool, steps: int) -> dict[str, float]:
    """The same in a new one."""
    words = ["--one", json.dumps([dtype, fused, kept, steps])]
    run = [sys.executable, "-m", "benchmarks.kept_memory", *words]
    clean = {name: value for name, value in os.environ.items() if name not in SAID}
    return json.loads(subprocess.run(run, env=clean, stdout=subprocess.PIPE, check=True, text=True).stdout)


def table(rounds: int, steps: int) -> str:
    told = (
        f"Medians of {rounds} rounds (smallest - largest), {steps} steps a process, one thread; own: as glibc does it."
    )
    lines = [told, "", HEAD, "|" + "---|" * 8]
    for name, (dtype, fused) in WORKS.items():
        found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
        for number in range(rounds):
            for kept in (False, True) if number % 2 else (True, False):
                found[kept].append(in_a_process(dtype, fused, kept, steps))
        own, kept = ({key: np.array([one[key] for one in found[kind]]) for key in found[kind][0]} for kind in found)
        cells = [name, spread(own["ms"]), spread(kept["ms"]), spread(kept["ms"] / own["ms"])]
        cells += [f"{np.median(x[key]):.0f}" for key in ("faults", "megabytes") for x in (own, kept)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kept_memory", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="folder for table.md and environment.md")
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measure(*json.loads(options.one))))
        return
    text = table(options.rounds, options.steps)
    print(text)
    if options.out is not None:
        keep(options.out, text, environment(command_line("benchmarks.kept_memory"), ("torch", "numba", "numpy")))


if __name__ == "__main__":
    main()
