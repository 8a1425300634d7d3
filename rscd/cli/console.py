"""What people see: messages, tables and progress on standard error; JSON on standard output; exit codes."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import typer

from rscd.cli.signals import resume_command, unwinding
from rscd.errors import Interrupted, RscdError


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn an RscdError into one line and its exit code; Ctrl-C, SIGTERM and SIGHUP into exit code 5.

    Anything else is a defect of ours: its traceback is shown, and Python exits with 1.
    """
    try:
        with unwinding():
            yield
    except RscdError as error:
        say(f"rscd: {' '.join(str(error).split())}")
        if isinstance(error, Interrupted):
            say(f"rscd: to go on where it was: {resume_command()}")
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        say(f"\nrscd: interrupted; no output was changed. Run it again: {resume_command()}")
        raise typer.Exit(Interrupted.exit_code) from error


def printable(text: str) -> str:
    """The text without what would steer a terminal: names and licences come from files."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def say(text: str, *, quiet: bool = False) -> None:
    """Write a line to standard error, unless quiet or nobody is there to read it: the terminal may be closed."""
    if not quiet:
        with suppress(OSError):
            sys.stderr.write(printable(text) + "\n")
            sys.stderr.flush()


def print_json(value: Any) -> None:  # noqa: ANN401 - anything that JSON or a dataclass holds
    """Write one JSON object to standard output."""
    plain = dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    sys.stdout.write(json.dumps(plain, default=_to_json, indent=2) + "\n")


def _to_json(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"not JSON: {type(value).__name__}")


def print_table(rows: list[tuple[str, str]], *, stdout: bool = False) -> None:
    """Print names and values as a table, on standard error unless it is what was asked for."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in rows:
        table.add_row(Text(printable(name), style="bold"), Text(printable(value)))
    with nullcontext() if stdout else suppress(OSError):  # nobody may be there any more to read the second
        Console(stderr=not stdout).print(table)


def print_columns(header: Sequence[str], rows: Sequence[Sequence[str]], *, stdout: bool = False) -> None:
    """Print a table with a header, on standard error unless it is what was asked for."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1), header_style="bold")
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(stderr=not stdout)
    if not console.is_terminal:
        console.width = 200  # a file has no width, and nothing is to be cut
    console.print(table)


@contextmanager
def counted(label: str, unit: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar by count; yields a callback of things done and things in all."""
    with _bar(label, unit, quiet=quiet) as show:
        yield show


@contextmanager
def megapixels(label: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar by Mpx; yields a callback of pixels done and pixels in all."""
    with _bar(label, "Mpx", quiet=quiet, bar_format=_MPX) as show:
        yield lambda done, total: show(round(done / 1e6, 2), round(total / 1e6, 2))


@contextmanager
def _bar(
    label: str, unit: str, *, quiet: bool, bar_format: str | None = None
) -> Iterator[Callable[[float, float], None]]:
    """Show a progress bar on standard error, where somebody is there to see it: the terminal may be closed."""
    from tqdm import tqdm

    bar = tqdm(desc=label, unit=unit, file=sys.stderr, disable=quiet or None, bar_format=bar_format)

    def update(done: float, total: float) -> None:
        with suppress(OSError):
            bar.total = total
            bar.update(done - bar.n)

    try:
        yield update
    finally:
        with suppress(OSError):
            bar.close()


_MPX = "{desc}: {percentage:3.0f}% |{bar}| {n:.1f}/{total:.1f} Mpx, {remaining} left, {rate_fmt}"
