"""Look at the data and the weights that all cells share before any of them makes a folder."""

from collections.abc import Sequence
from pathlib import Path

from nets.settings import new_settings
from nets.sweeps.grid import Cell
from nets.training.dense import load_dense, load_images


def refuse_unusable(cells: Sequence[Cell]) -> None:
    """InputError in the words of the first of `cells`, where its data, or a dense network that is there already, cannot be read
    or do not fit. (What only its method cannot do stays that cell's own row.)"""
    if not cells:
        return
    settings = new_settings(cells[0].command, cells[0].settings)
    data = load_images(settings)
    if settings.dense is not None and Path(settings.dense).exists():
        load_dense(Path(settings.dense), settings, data)
