"""What progress bars on standard error share: they end with their block, and lines are written above them."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, ProgressColumn


class Bars:
    """Abstract. A bar shows once `self._progress` is started; seen=False: nothing is written."""

    def __init__(self, *columns: ProgressColumn, seen: bool = True) -> None:
        self._console = Console(stderr=True, quiet=not seen)
        self._progress = Progress(*columns, console=self._console)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress.live.is_started:  # stopping what never began would write an empty line
            self._progress.stop()

    def say(self, text: str) -> None:
        """One line above the bars."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
