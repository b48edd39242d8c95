"""The epochs of a run as TensorBoard scalars: the same numbers as metrics.jsonl, one section a phase."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perspective.errors import CheckFailed, InputError


def open_writer(run: Path) -> Any:
    """A SummaryWriter on RUN/tensorboard that already holds every line of RUN/metrics.jsonl; close it at the end.

    Older event files there are removed first: a resumed run repeats epochs, and TensorBoard would draw them twice.
    InputError where the package is missing.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "--tensorboard needs the package tensorboard; run pip install 'perspective-pruning[tensorboard]', "
            "or leave the flag out: metrics.jsonl holds the same numbers"
        ) from error
    folder = run / "tensorboard"
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    writer = SummaryWriter(str(folder))
    metrics = run / "metrics.jsonl"
    for text in metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else []:
        write_scalars(writer, json.loads(text))
    return writer


def write_scalars(writer: Any, line: Mapping[str, Any]) -> None:
    """Write one epoch's line of metrics.jsonl and flush it: "PHASE/NAME" at step epoch, "PHASE NAME/LAYER" for numbers
    that are kept layer by layer. What is None or no number has no scalar; CheckFailed for NaN and infinity."""
    phase, epoch = str(line["phase"]), int(line["epoch"])
    for name, value in line.items():
        if name in ("phase", "epoch"):
            continue
        numbers = {f"{phase} {name}/{layer}": v for layer, v in value.items()} if isinstance(value, Mapping) else {}
        for tag, number in (numbers or {f"{phase}/{name}": value}).items():
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            if not math.isfinite(number):
                raise CheckFailed(f"{name} of epoch {epoch} of the {phase} phase is {number}; the training diverged")
            writer.add_scalar(tag, number, epoch)
    writer.flush()
