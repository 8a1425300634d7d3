"""Standard error: lines for people, or with ``--progress json`` one JSON object a line for programs.

It may be closed, full, or a pipe that nobody reads any more: messages are a courtesy, and the run goes on.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Annotated, Literal, TextIO

import typer

Way = Literal["auto", "json", "off"]
"""How progress is shown: a bar on a terminal, JSON lines, or not at all."""


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


_chosen: list[Way] = ["auto"]
"""How this process shows progress, last."""


def _choose(ctx: typer.Context, value: Way) -> Way:
    """Take what was given for the time of the command."""
    _chosen.append(value)
    ctx.call_on_close(_chosen.pop)
    return value


Progress = Annotated[
    Way,
    typer.Option(
        "--progress",
        callback=_choose,
        is_eager=True,
        metavar="[auto|json|off]",
        help="A bar on terminals, one JSON object a line on standard error, or messages without a bar.",
    ),
]


def way() -> Way:
    """How this process shows progress."""
    return _chosen[-1]


def silent(*, quiet: bool, as_json: bool, progress: Way) -> bool:
    """Whether messages and progress stay out: with ``--quiet``, and with ``--json`` unless a program reads them."""
    return quiet or (as_json and progress != "json")


def emit(event: Literal["progress", "message", "error"], **values: str | float) -> None:
    """Write one event of the stream that ``--progress json`` asks for."""
    stream = Courtesy()
    stream.write(json.dumps({"event": event, **values}) + "\n")
    stream.flush()
