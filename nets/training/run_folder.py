"""The run folder: who may write into it, config.json, metrics.jsonl and result.json, every file replaced atomically."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from perspective.errors import InputError

COMMAND = "command.txt"  # of `compare`: what runs this cell alone
BEFOREHAND = {
    "derivation.md",
    "bound_chain.json",
    COMMAND,
}  # they may lie there already; the first two are for the report


TEMPORARY = ("probe", "config.json", "metrics.jsonl", "masks.json", "result.json", "report.html", "dense", "model")


def clear_left_over(out: Path) -> None:
    """Delete what a process killed while writing left under a temporary name."""
    for name in TEMPORARY:
        for path in out.glob(f".{name}.*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def prepare_folder(out: Path) -> None:
    """Create `out`; InputError where it cannot be written or already holds a run or anything foreign."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        clear_left_over(out)
        probe = out / f".probe.{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"the output folder {out} cannot be written ({error.strerror}); choose another --out"
        ) from error
    if any(path.name not in BEFOREHAND for path in out.iterdir()):
        raise InputError(
            f"the output folder {out} is not empty; add --resume to continue that run, or choose another --out"
        )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON under a temporary name in the same folder, then rename; NaN is refused."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; InputError where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as JSON ({type(error).__name__}); is {path.parent} a run folder?"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} does not hold a JSON object; is {path.parent} a run folder?")
    return content


def append_metrics(path: Path, line: Mapping[str, Any]) -> int:
    """Append one epoch's line and flush it; returns the number of lines the file has now."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return len(path.read_text(encoding="utf-8").splitlines())


def cut_metrics(path: Path, lines: int) -> None:
    """Keep the first `lines` lines: what came later belongs to an epoch that is about to be repeated."""
    present = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    if len(present) < lines:
        raise InputError(f"{path} has {len(present)} lines, its checkpoint says {lines}; start the run again")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text("".join(present[:lines]), encoding="utf-8")
    os.replace(temporary, path)


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Versions and machine, as far as they decide the numbers."""
    packages = {}
    for name in ("torch", "numpy", "safetensors", "scikit-learn", "perspective-pruning"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "device": device.type,
        "threads": torch.get_num_threads(),
        "packages": packages,
        "argv": sys.argv,
    }
