"""Messages and tables on standard error, what was asked for on standard output; exit codes.

Either may be closed, full, or a pipe that nobody reads any more. Messages are a courtesy: where standard error
cannot be written, the run goes on. Standard output is what was asked for: where it cannot be written, the
command fails. With ``--progress json`` standard error has one JSON object a line for programs.
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
"""Columns of a table that goes into a file or a pipe: they have no width, and nothing is to be cut there."""


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


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn an RscdError into one line and its exit code; Ctrl-C, SIGTERM and SIGHUP into exit code 5.

    Anything else is a defect of ours: its traceback is shown, and Python exits with 1.
    """
    try:
        with unwinding():
            yield
    except RscdError as error:
        if isinstance(error, Interrupted) and way() == "json":
            remedy = error.remedy or f"to go on where it was: {resume_command()}"
            fail(Interrupted(error.problem, path=error.path, remedy=remedy))
        else:
            fail(error)
            if isinstance(error, Interrupted):
                say(f"rscd: to go on where it was: {resume_command()}", copied=True)
        raise typer.Exit(error.exit_code) from error
    except MemoryError as error:
        fail(UsageError("there is not enough memory", remedy="free some, or use a smaller --window"))
        raise typer.Exit(UsageError.exit_code) from error
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        fail(UsageError("the system starts no more threads", remedy="raise its limit, see ulimit -u"))
        raise typer.Exit(UsageError.exit_code) from error
    except KeyboardInterrupt as error:
        if way() == "json":
            fail(Interrupted("interrupted", remedy=f"run it again: {resume_command()}"))
        else:
            say(f"\nrscd: interrupted. Run it again: {resume_command()}", copied=True)
        raise typer.Exit(Interrupted.exit_code) from error


def printable(text: str) -> str:
    """The text without what would steer a terminal: names and licences come from files."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def say(text: str, *, quiet: bool = False, copied: bool = False) -> None:
    """Write a line to standard error, above a progress bar if there is one.

    Args:
        text: The line.
        quiet: Do not.
        copied: It is there to be copied: a terminal wraps it, not we, so that no line break is copied with it.
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
    """Write an error to standard error: one line, or one event with its remedy apart."""
    if way() == "json":
        text = error.line.removesuffix(f" - {' '.join(error.remedy.split())}") if error.remedy else error.line
        emit("error", text=printable(text), remedy=printable(error.remedy), exit_code=error.exit_code)
    else:
        say(f"rscd: {error.line}")


def print_json(value: Any, published: Path | None = None) -> None:  # noqa: ANN401 - what JSON or a dataclass holds
    """Write one JSON object to standard output.

    Args:
        value: What to print.
        published: What the command has made, to be named where printing fails.

    Raises:
        OutputError: It cannot be written there.
    """
    plain = dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    try:
        with printing() as stdout:
            stdout.write(json.dumps(plain, default=_to_json, indent=2) + "\n")
    except OSError as error:
        made = f"{published} is written, but " if published is not None else ""
        raise OutputError(made + cannot_print(error), remedy="see where it leads") from error


def _to_json(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"not JSON: {type(value).__name__}")


def print_table(rows: Sequence[tuple[str, str]], *, stdout: bool = False) -> None:
    """Print names and values as a table, on standard error unless it is what was asked for."""
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
    """Print a table with a header, on standard error unless it is what was asked for.

    On a terminal too narrow for it, each row is a paragraph instead: its name, then names and values.
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
        OutputError: It was asked for, and cannot be written.
    """
    console = _console(stdout=stdout)
    if not stdout:
        console.print(table)
        return
    with console.capture() as text:
        console.print(table)
    print_text(text.get())


def print_text(text: str) -> None:
    """Write what was asked for to standard output.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        with printing() as file:
            file.write(text)
    except BrokenPipeError:  # "| head" has seen what it wanted
        pass
    except OSError as error:
        raise OutputError(cannot_print(error), remedy="see where it leads") from error


def cannot_print(error: OSError) -> str:
    """What is wrong with standard output, in words."""
    return f"standard output cannot be written: {error.strerror or error}"


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
