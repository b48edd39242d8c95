"""A progress bar on standard error for layers that are solved at the same time."""

from typing import Self, final

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from nets.training.bars import Bars


@final
class LayerBars(Bars):
    """One bar over all layers, beside it the layers in progress; a line for each layer that ends."""

    def __init__(self, total: int, done: int) -> None:
        description = TextColumn("{task.description}")
        super().__init__(BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), description)
        self._bar = self._progress.add_task("", total=total, completed=done)
        self._running: list[str] = []

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def start(self, name: str) -> None:
        """A layer's process has begun."""
        self._running.append(name)
        self._progress.update(self._bar, description=", ".join(self._running))

    def finish(self, name: str, note: str) -> None:
        """A layer has ended, well or not."""
        self._running.remove(name)
        self._progress.update(self._bar, advance=1, description=", ".join(self._running))
        self.say(f"{name}: {note}")
