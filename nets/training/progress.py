"""A progress bar on standard error: phase, epoch, accuracy and surviving channels."""

from typing import final

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn

from nets.training.bars import Bars


@final
class EpochBars(Bars):
    """One bar a phase; every written line goes to standard error. seen=False: nothing is written (ranks but the first)."""

    def __init__(self, seen: bool = True) -> None:
        super().__init__(
            TextColumn("{task.description:<11}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            seen=seen,
        )

    def start(self, phase: str, epochs: int, done: int) -> TaskID:
        """A new bar for a phase; the number stands for it afterwards."""
        self._progress.start()  # with the first bar: an error before it leaves no empty line
        return self._progress.add_task(phase, total=epochs, completed=done, note="")

    def advance(self, bar: TaskID, note: str) -> None:
        """One epoch is done."""
        self._progress.update(bar, advance=1, note=note)
