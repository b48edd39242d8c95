"""A finished run, opened again: its settings, its data, the network that came out and the dense one it came from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from torch import nn

from nets.data import load_data
from nets.datasets.images import Images
from nets.saving import load
from nets.training.run_folder import read_json
from perspective.errors import InputError


@final
@dataclass(frozen=True)
class FinishedRun:
    """final: the network of RUN/model; dense: that of RUN/dense, None where nothing was pruned. Both on the CPU, in
    evaluation mode."""

    config: Mapping[str, Any]
    data: Images
    final: nn.Module
    dense: nn.Module | None


def open_finished(run: Path, data_dir: Path | None = None) -> FinishedRun:
    """Open the run folder; `data_dir` takes the place of the folder its config.json names (the data may have moved).

    InputError where it is no run folder, the run is not finished, or its data are not there.
    """
    config = read_json(run / "config.json")
    if not (run / "model").is_dir():
        raise InputError(f"{run} holds no finished network (no folder model); finish or resume that run first")
    if not isinstance(config.get("data"), str):
        raise InputError(f"{run / 'config.json'} names no data; give a run folder of perspective train or prune")
    folder = config.get("data_dir") if data_dir is None else data_dir
    return FinishedRun(
        config=config,
        data=load_data(config["data"], None if folder is None else Path(folder), config.get("image_size")),
        final=load(run / "model"),
        dense=load(run / "dense") if (run / "dense").is_dir() else None,
    )
