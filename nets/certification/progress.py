"""A progress bar on standard error for layers that are solved at the same time."""

from types import TracebackType
from typing import Self, final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


@final
class LayerBars:
    """One bar over all layers, beside it the layers in progress; a line for each layer that ends."""

    def __init__(self, total: int, done: int) -> None:
        self._console = Console(stderr=True)
        columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._progress = Progress(*columns, console=self._console)
        self._bar = self._progress.add_task("", total=total, completed=done)
        self._running: list[str] = []

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """One line above the bar."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def start(self, name: str) -> None:
        """A layer's process has begun."""
        self._running.append(name)
        self._progress.update(self._bar, description=", ".join(self._running))

    def finish(self, name: str, note: str) -> None:
        """A layer has ended, well or not."""
        self._running.remove(name)
        self._progress.update(self._bar, advance=1, description=", ".join(self._running))
        self.say(f"{name}: {note}")
