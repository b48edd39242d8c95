"""A progress bar on standard error: phase, epoch, accuracy and surviving channels."""

from types import TracebackType
from typing import Self, final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


@final
class EpochBars:
    """One bar a phase; every written line goes to standard error. seen=False: nothing is written (ranks but the first)."""

    def __init__(self, seen: bool = True) -> None:
        self._console = Console(stderr=True, quiet=not seen)
        self._progress = Progress(
            TextColumn("{task.description:<11}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """One line above the bars."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def start(self, phase: str, epochs: int, done: int) -> TaskID:
        """A new bar for a phase; the number stands for it afterwards."""
        self._progress.start()  # with the first bar: an error before it leaves no empty line
        return self._progress.add_task(phase, total=epochs, completed=done, note="")

    def advance(self, bar: TaskID, note: str) -> None:
        """One epoch is done."""
        self._progress.update(bar, advance=1, note=note)
