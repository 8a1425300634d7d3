"""Standard output and standard error as they really are: closed, full, or a pipe that nobody reads any more.

What is written to standard error is a courtesy: where it cannot be written, the run goes on. What is written to
standard output is what was asked for: where it cannot be written, the command fails.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 200
"""Columns of a table that goes into a file or a pipe: they have no width, and nothing is to be cut there."""


class Courtesy:
    """Standard error, whichever it is at the moment, without the errors of writing to it."""

    @property
    def encoding(self) -> str:
        """What its characters are encoded in."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write the text if that is possible."""
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if that is possible."""
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.flush()

    def isatty(self) -> bool:
        """Whether a person reads it on a terminal."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    @property
    def _stream(self) -> TextIO | None:
        """Standard error itself: while a bar is shown, rich's stand-in for it writes to us."""
        stream: TextIO | None = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
        return stream

    def fileno(self) -> int:
        """The descriptor of standard error, whether it can be written or not."""
        return 2


@cache
def messages() -> Console:
    """The console of all that goes to standard error, so that messages and progress bars share the screen."""
    from rich.console import Console

    courtesy: Any = Courtesy()
    return Console(file=courtesy, width=None if courtesy.isatty() else PIPE_WIDTH, highlight=False)


@contextmanager
def printing() -> Iterator[TextIO]:
    """Yield standard output, and write what was printed to it.

    Raises:
        OSError: It is closed, or cannot take more, or the reader of the pipe has gone, as ``| head`` does.
    """
    if sys.stdout is None:
        raise OSError("it is closed")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except OSError:
        _to_nowhere(sys.stdout, 1)
        raise


def open_all() -> None:
    """Put /dev/null where a standard stream is closed: the next file to be opened would take its number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one


def flush_all() -> None:
    """Write what is left of standard output and error, or drop it: Python would end with a message and 120."""
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            _to_nowhere(stream, descriptor)


def _to_nowhere(stream: TextIO, descriptor: int) -> None:
    """Let a stream lead to /dev/null, with what it still holds."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, descriptor)
    finally:
        os.close(nowhere)
    with contextlib.suppress(OSError, ValueError):
        stream.flush()
