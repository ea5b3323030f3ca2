"""What a person sees while something runs: bars with time left on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

_EVERY_S = 15.0  # between plain lines of one bar


class Bar:
    """One thing that is counted to a total; made by `Screen.bar`."""

    def __init__(self, screen: Screen, title: str, total: int, unit: str) -> None:
        self._screen, self._title, self._total, self._unit = screen, title, total, unit
        self._done, self._start = 0, time.monotonic()
        self._last = self._start
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more; `note` is shown beside the bar."""
        self._done += count
        if self._progress is not None:
            self._progress.update(self._task, advance=count, note=note)
        elif self._screen.console is not None and time.monotonic() - self._last >= _EVERY_S:
            self._last = time.monotonic()
            line = f"  {self._title}: {self._done:,}/{self._total:,} {self._unit}".rstrip()
            if self._done:
                left = (self._last - self._start) / self._done * (self._total - self._done)
                line += f", {duration(left)} left"
            self._screen.say(f"{line}  {note}".rstrip())

    def reach(self, done: int, total: int) -> None:
        """Count up to `done` of `total`, for callers that learn the total on the way."""
        self._total = total
        if self._progress is not None:
            self._progress.update(self._task, total=total)
        self.advance(done - self._done)


class Screen:
    """Messages and bars.

    Args:
        console: Where to; None keeps quiet, but for warnings.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console

    @classmethod
    def on_stderr(cls) -> Screen:
        """The screen of the command line: standard output stays free for results."""
        return cls(Console(stderr=True, highlight=False))

    @property
    def live(self) -> bool:
        """True on a terminal that can redraw."""
        console = self.console  # FORCE_COLOR makes rich call a pipe a terminal; a bar in a pipe is a flood of lines
        return console is not None and console.file.isatty() and not console.is_dumb_terminal

    def say(self, text: str) -> None:
        """One line."""
        if self.console is not None:
            self.console.print(Text(text), soft_wrap=True)  # a Text has no markup: names of files stay as they are

    def show(self, renderable: RenderableType) -> None:
        """A table, or whatever else rich draws."""
        if self.console is not None:
            self.console.print(renderable)

    def warn(self, text: str) -> None:
        """One line that must not be overlooked: without a console it becomes a Python warning."""
        if self.console is not None:
            self.console.print(Text.assemble(("warning:", "yellow"), " ", text), soft_wrap=True)
        else:
            warnings.warn(text, UserWarning, stacklevel=3)
        # A warning in a log that nobody redraws should not wait in a buffer.
        sys.stderr.flush()

    @contextmanager
    def bar(self, title: str, total: int, unit: str = "") -> Iterator[Bar]:
        """Count to `total` inside the block."""
        bar = Bar(self, title, total, unit)
        if not self.live:
            yield bar
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit, markup=False),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            bar._progress = progress
            bar._task = progress.add_task(title, total=total, note="")
            yield bar


def duration(seconds: float) -> str:
    """Seconds as a person says them: 45 s, 3 min 20 s, 1 h 05 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
