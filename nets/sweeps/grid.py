"""A grid of trainings: every flag that holds a list of values is an axis, every combination is a cell with a run folder.

    perspective sweep train --strength 0.5,1,2 --alpha 0.01,0.1 --seed 0,1,2 ...  ->  18 cells

The order is that of nested loops in the order of the flags' names in nets/options.py; the last one runs fastest.
"""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

from nets.options import OPTIONS
from nets.settings import as_words, flag
from perspective.errors import InputError

Command = Literal["train", "prune"]
LISTS_OF_ITS_OWN = ("exclude",)  # its commas separate patterns


@final
@dataclass(frozen=True)
class Cell:
    """One training of the grid.

    name     of its run folder: the axes' values
    axes     the swept flags and their values, as they were written
    settings what config.json is to hold: all flags that were given, and `dense` (a run folder or weights file) if any
    source   command-line words for its dense network, where cells have different ones; None: as the plan says for all
    """

    name: str
    command: Command
    axes: Mapping[str, str]
    settings: Mapping[str, Any]
    source: tuple[str, ...] | None = None

    def arguments(self, source: tuple[str, ...], folder: Path, resume: bool) -> list[str]:
        """The command line of this cell after `perspective`; source: how `dense` is said there."""
        words = [self.command, *(source if self.source is None else self.source)]
        for name, value in self.settings.items():
            if name != "dense":
                words += as_words(name, value)
        return [*words, "--out", str(folder), *(["--resume"] if resume else [])]


def lay_out(command: Command, given: Mapping[str, str | bool], dense: Path | None) -> tuple[Cell, ...]:
    """The cells of the grid. given: flags by name as they were written, "0.5,1,2" for an axis.

    InputError for a value of the wrong type, one given twice, and where no flag holds more than one value.
    """
    values = {name: _values(name, given[name]) for name in OPTIONS if given.get(name) not in (None, False)}
    axes = [name for name, texts in values.items() if len(texts) > 1]
    if not axes:
        raise InputError("nothing is swept; give a flag several values separated by commas, for example --seed 0,1,2")
    fixed: dict[str, Any] = {} if dense is None else {"dense": str(dense.resolve())}
    fixed |= {name: next(iter(texts.values())) for name, texts in values.items() if len(texts) == 1}
    cells = []
    for texts in itertools.product(*(values[name] for name in axes)):
        chosen = dict(zip(axes, texts, strict=True))
        settings = {**fixed, **{name: values[name][text] for name, text in chosen.items()}}
        name = "_".join(f"{axis}-{re.sub(r'[^A-Za-z0-9.+=-]', '-', text)}" for axis, text in chosen.items())
        cells.append(Cell(name, command, chosen, settings))
    if len({cell.name for cell in cells}) < len(cells):
        raise InputError(f"two values of {' or '.join(map(flag, axes))} would share a run folder; sweep them apart")
    return tuple(cells)


def _values(name: str, given: str | bool) -> dict[str, Any]:
    """What was written -> the setting's value."""
    if isinstance(given, bool):
        return {"": given}
    kind = OPTIONS[name][0]
    texts = [given] if name in LISTS_OF_ITS_OWN else [text.strip() for text in given.split(",")]
    found: dict[str, Any] = {}
    for text in texts:
        try:
            value = str(Path(text).resolve()) if kind is Path and text else kind(text)
        except ValueError:
            value = ""
        if value == "":
            raise InputError(
                f"{flag(name)} {given}: {text!r} is not {_ARTICLE[kind]}; separate values by single commas"
            )
        if value in found.values():
            raise InputError(f"{flag(name)} {given} gives {text} twice; give every value once")
        found[text] = value
    return found


_ARTICLE = {str: "a word", int: "a whole number", float: "a number", Path: "a path"}
