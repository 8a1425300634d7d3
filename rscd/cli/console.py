"""What people see: messages and tables on standard error, what was asked for on standard output; exit codes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rscd.cli.signals import resume_command, unwinding
from rscd.cli.streams import PIPE_WIDTH, messages, printing
from rscd.errors import Interrupted, OutputError, RscdError, UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn an RscdError into one line and its exit code; Ctrl-C, SIGTERM and SIGHUP into exit code 5.

    Anything else is a defect of ours: its traceback is shown, and Python exits with 1.
    """
    try:
        with unwinding():
            yield
    except RscdError as error:
        say(f"rscd: {error.line}")
        if isinstance(error, Interrupted):
            say(f"rscd: to go on where it was: {resume_command()}", copied=True)
        raise typer.Exit(error.exit_code) from error
    except MemoryError as error:
        say("rscd: there is not enough memory - free some, or use a smaller --window")
        raise typer.Exit(UsageError.exit_code) from error
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        say("rscd: the system starts no more threads - raise its limit, see ulimit -u")
        raise typer.Exit(UsageError.exit_code) from error
    except KeyboardInterrupt as error:
        say(f"\nrscd: interrupted; no output was changed. Run it again: {resume_command()}", copied=True)
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
    from rich.text import Text

    if not quiet:
        console = messages()
        console.print(Text(printable(text)), soft_wrap=copied or not console.is_terminal)


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
    try:
        with printing() as file:
            file.write(text.get())
    except BrokenPipeError:  # "| head" has seen what it wanted
        pass
    except OSError as error:
        raise OutputError(cannot_print(error), remedy="see where it leads") from error


def cannot_print(error: OSError) -> str:
    """What is wrong with standard output, in words."""
    return f"standard output cannot be written: {error.strerror or error}"
