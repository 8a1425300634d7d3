"""Messages and tables on standard error, requested results on standard output; exit codes.

Either stream may be closed, full, or a pipe without a reader. If standard error cannot be written, the run goes on
without messages. If standard output cannot be written, the command fails. With ``--progress json`` standard error
carries one JSON object per line, for programs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import typer

from rscd.cli.signals import resume_command, unwinding
from rscd.core.errors import Interrupted, OutputError, RscdError, UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH = 200
"""Columns of a table that goes to a file or a pipe, which has no width: nothing may be cut there."""


@cache
def messages() -> Console:
    """The console for everything on standard error, so that messages and progress bars share the screen."""
    from rich.console import Console

    courtesy: Any = Courtesy()
    return Console(file=courtesy, width=None if courtesy.isatty() else PIPE_WIDTH, highlight=False)


@contextmanager
def printing() -> Iterator[TextIO]:
    """Yield standard output, and flush it afterwards.

    Raises:
        OSError: It is closed or full, or the reader of the pipe has gone, as with ``| head``.
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
    """Open /dev/null in place of closed standard streams: else the next opened file would take their number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor: this one


def flush_all() -> None:
    """Flush standard output and error, or drop what is left: Python would end with a message and exit code 120."""
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            _to_nowhere(stream, descriptor)


def _to_nowhere(stream: TextIO, descriptor: int) -> None:
    """Redirect a stream to /dev/null, with what it still holds."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, descriptor)
    finally:
        os.close(nowhere)
    with contextlib.suppress(OSError, ValueError):
        stream.flush()


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn an RscdError into one line and its exit code; Ctrl-C, SIGTERM and SIGHUP into exit code 5.

    Anything else is a bug in rscd: its traceback is shown, and Python exits with 1.
    """
    try:
        with unwinding():
            yield
    except RscdError as error:
        if isinstance(error, Interrupted) and way() == "json":
            remedy = error.remedy or f"to continue this run: {resume_command()}"
            fail(Interrupted(error.problem, path=error.path, remedy=remedy))
        else:
            fail(error)
            if isinstance(error, Interrupted):
                say(f"rscd: to continue this run: {resume_command()}", copied=True)
        raise typer.Exit(error.exit_code) from error
    except MemoryError as error:
        fail(UsageError("not enough memory", remedy="free some, or use a smaller --window"))
        raise typer.Exit(UsageError.exit_code) from error
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        fail(UsageError("the system cannot start more threads", remedy="raise its limit, see ulimit -u"))
        raise typer.Exit(UsageError.exit_code) from error
    except KeyboardInterrupt as error:
        if way() == "json":
            fail(Interrupted("interrupted", remedy=f"run it again: {resume_command()}"))
        else:
            say(f"\nrscd: interrupted. Run it again: {resume_command()}", copied=True)
        raise typer.Exit(Interrupted.exit_code) from error


def printable(text: str) -> str:
    """The text without control characters of terminals: names and licences come from files."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def say(text: str, *, quiet: bool = False, copied: bool = False) -> None:
    """Write a line to standard error, above a progress bar if there is one.

    Args:
        text: The line.
        quiet: Write nothing.
        copied: The text is meant to be copied: only the terminal wraps it, so no line break is copied.
    """
    if quiet:
        return
    if way() == "json":
        emit("message", text=printable(text).strip())
    else:
        from rich.text import Text

        console = messages()
        console.print(Text(printable(text)), soft_wrap=copied or not console.is_terminal)


def fail(error: RscdError) -> None:
    """Write an error to standard error: one line, or one event with a separate remedy."""
    if way() == "json":
        text = error.line.removesuffix(f" - {' '.join(error.remedy.split())}") if error.remedy else error.line
        emit("error", text=printable(text), remedy=printable(error.remedy), exit_code=error.exit_code)
    else:
        say(f"rscd: {error.line}")


def print_json(value: Any, published: Path | None = None) -> None:  # noqa: ANN401 - what JSON or a dataclass holds
    """Write one JSON object to standard output.

    Args:
        value: What to print.
        published: File that the command has written, named in the error if printing fails.

    Raises:
        OutputError: Standard output cannot be written.
    """
    plain = dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    try:
        with printing() as stdout:
            stdout.write(json.dumps(plain, default=_to_json, indent=2) + "\n")
    except OSError as error:
        made = f"{published} is written, but " if published is not None else ""
        raise OutputError(made + cannot_print(error), remedy="check where it is redirected") from error


def _to_json(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"not JSON: {type(value).__name__}")


def print_table(rows: Sequence[tuple[str, str]], *, stdout: bool = False) -> None:
    """Print names and values as a table, on standard error or, as the requested result, on standard output."""
    if way() == "json" and not stdout:
        for name, value in rows:
            emit("message", text=printable(f"{name}: {value}" if name else value))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in rows:
        table.add_row(Text(printable(name), style="bold"), Text(printable(value), overflow="fold"))
    _print(table, stdout=stdout)


def print_columns(header: Sequence[str], rows: Sequence[Sequence[str]], *, stdout: bool = False) -> None:
    """Print a table with a header, on standard error or, as the requested result, on standard output.

    On a terminal too narrow for it, each row becomes a paragraph: its name, then names and values.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1), header_style="bold")
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    widths = [max(map(len, column)) + 2 for column in zip(header, *rows, strict=True)]
    if sum(widths) <= _console(stdout=stdout).width:
        _print(table, stdout=stdout)
    else:
        paragraphs = [
            (row[0], ", ".join(f"{name} {cell}" for name, cell in zip(header[1:], row[1:], strict=True)))
            for row in rows
        ]
        print_table(paragraphs, stdout=stdout)


def _console(*, stdout: bool) -> Console:
    from rich.console import Console

    if not stdout:
        return messages()
    console = Console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def _print(table: Table, *, stdout: bool) -> None:
    """Print a table.

    Raises:
        OutputError: It is the requested result, and standard output cannot be written.
    """
    console = _console(stdout=stdout)
    if not stdout:
        console.print(table)
        return
    with console.capture() as text:
        console.print(table)
    print_text(text.get())


def print_text(text: str) -> None:
    """Write requested text to standard output.

    Raises:
        OutputError: Standard output cannot be written.
    """
    try:
        with printing() as file:
            file.write(text)
    except BrokenPipeError:  # "| head" has seen what it wanted
        pass
    except OSError as error:
        raise OutputError(cannot_print(error), remedy="check where it is redirected") from error


def cannot_print(error: OSError) -> str:
    """Why standard output cannot be written, as a message."""
    return f"standard output cannot be written: {error.strerror or error}"


Way = Literal["auto", "json", "off"]
"""How progress is shown: a bar on a terminal, JSON lines, or not at all."""


class Courtesy:
    """The current standard error; errors of writing to it are ignored."""

    @property
    def encoding(self) -> str:
        """Its character encoding."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write the text if possible."""
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if possible."""
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream is not None and self._stream.isatty()
        return False

    @property
    def _stream(self) -> TextIO | None:
        """The real standard error: while a bar is shown, rich replaces it by a stand-in that writes to us."""
        stream: TextIO | None = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
        return stream

    def fileno(self) -> int:
        """The file descriptor of standard error, writable or not."""
        return 2


_chosen: list[Way] = ["auto"]
"""How this process shows progress; the last item is valid."""


def _choose(ctx: typer.Context, value: Way) -> Way:
    """Use the given value for the duration of the command."""
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
        help="auto: a bar on terminals; json: one JSON object per line on standard error; off: no bar.",
    ),
]


def way() -> Way:
    """How this process shows progress."""
    return _chosen[-1]


def silent(*, quiet: bool, as_json: bool, progress: Way) -> bool:
    """Whether messages are suppressed: by ``--quiet``, and by ``--json`` without ``--progress json``."""
    return quiet or (as_json and progress != "json")


def emit(event: Literal["progress", "message", "error"], **values: str | float) -> None:
    """Write one event of the ``--progress json`` stream."""
    stream = Courtesy()
    stream.write(json.dumps({"event": event, **values}) + "\n")
    stream.flush()
