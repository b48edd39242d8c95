"""Where cells run: how many at a time, and on which devices."""

import os
from collections.abc import Sequence
from typing import Any

from perspective.errors import InputError


def parse_devices(text: str | None) -> tuple[str, ...] | None:
    """ "cpu" or "cuda:0,cuda:1"; None: as the cells' own --device says."""
    if text is None:
        return None
    devices = tuple(word.strip() for word in text.split(","))
    gpus = all(word.startswith("cuda:") and word[5:].isdigit() for word in devices)
    if devices != ("cpu",) and not (gpus and len(set(devices)) == len(devices)):
        raise InputError(f"--devices {text!r} is not cpu or a list of different GPUs such as cuda:0,cuda:1")
    return devices


def device_flag(devices: tuple[str, ...] | None, given: Any) -> str | None:
    """The cells' --device; InputError where `given` says it too."""
    if devices is None:
        return given
    if given is not None:
        raise InputError("give --device or --devices, not both")
    return "cpu" if devices == ("cpu",) else "cuda"


def count_jobs(jobs: int | None, devices: tuple[str, ...] | None, cells: Sequence[Any]) -> int:
    """Cells at a time: as asked for, or one a GPU, or one a core."""
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs is {jobs}; it must be at least 1")
    default = len(os.sched_getaffinity(0)) if devices in (None, ("cpu",)) else len(devices or ())
    return max(1, min(jobs or default, len(cells)))
