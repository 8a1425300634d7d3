"""Progress, once the total is known: one bar below the messages on a terminal, or JSON lines (``--progress json``).

Without a terminal, e.g. in pipes and log files, nothing is shown.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rscd.cli.console import emit, messages, way

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


NARROW = 60
"""A terminal with fewer columns shows only label, bar and percentage."""
SHOWN_A_SECOND = 8
"""Updates of the bar, or events, per second."""


class Bar:
    """A progress bar on standard error.

    Args:
        label: What is being done.
        unit: What is counted, e.g. ``Mpx``.
        scale: Counts per unit.
        quiet: Show nothing.
    """

    def __init__(self, label: str, unit: str, *, scale: float = 1.0, quiet: bool = False) -> None:
        self._label, self._unit, self._scale, self._quiet = label, unit, scale, quiet
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._emitted_s = -1.0
        self._note = ""

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` counts are done; the first call with a total starts the bar."""
        if self._quiet or not total > 0:
            return
        if way() == "json":
            self._emit(done, total)
        elif way() == "auto" and messages().file.isatty():
            self._draw(done, total)

    def _emit(self, done: float, total: float) -> None:
        """Write an event, unless the last one was just written and the work goes on."""
        now = time.monotonic()
        if done < total and now < self._emitted_s + 1 / SHOWN_A_SECOND:
            return
        self._emitted_s = now
        amounts = {"done": round(done / self._scale, 6), "total": round(total / self._scale, 6)}
        note = {"note": self._note} if self._note else {}
        emit("progress", stage=self._label, **amounts, unit=self._unit, **note)

    def _draw(self, done: int, total: int) -> None:
        if self._progress is None:
            self._begin(done, total)
        assert self._progress is not None and self._task is not None
        self._progress.update(self._task, completed=done, total=total, amount=self._amount(done, total))

    def note(self, text: str) -> None:
        """Show a short text at the end of the bar, e.g. the loss."""
        self._note = text
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, note=text)

    def turn_to(self, label: str, unit: str) -> None:
        """From now on, show other work in the same bar."""
        if label != self._label:
            self._emitted_s, self._note = -1.0, ""
        self._label, self._unit = label, unit
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=label)

    def close(self) -> None:
        """End the bar; its last state stays on the screen."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._task = None

    def _begin(self, done: int, total: int) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        console = messages()
        columns = [TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), TaskProgressColumn()]
        if console.width >= NARROW:
            columns += [TextColumn("{task.fields[amount]}", markup=False), TimeRemainingColumn(compact=True)]
            columns += [TextColumn("left {task.fields[note]}", markup=False)]
        self._progress = Progress(
            *columns, console=console, refresh_per_second=SHOWN_A_SECOND, expand=True, redirect_stdout=False
        )
        self._task = self._progress.add_task(
            self._label, total=total, completed=done, amount=self._amount(done, total), note=""
        )
        self._progress.start()

    def _amount(self, done: float, total: float) -> str:
        if self._scale == 1:
            return f"{done:,.0f}/{total:,.0f} {self._unit}"
        return f"{done / self._scale:,.1f}/{total / self._scale:,.1f} {self._unit}"


@contextmanager
def counted(label: str, unit: str, *, quiet: bool) -> Iterator[Bar]:
    """Show progress by count; yields a callback of things done and in total."""
    bar = Bar(label, unit, quiet=quiet)
    try:
        yield bar
    finally:
        bar.close()


@contextmanager
def megapixels(label: str, *, quiet: bool) -> Iterator[Bar]:
    """Show progress by Mpx; yields a callback of pixels done and in total."""
    bar = Bar(label, "Mpx", scale=1e6, quiet=quiet)
    try:
        yield bar
    finally:
        bar.close()
