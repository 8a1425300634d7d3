"""A terminal as a person has it: commands are typed on a pseudo-terminal, and the screen is read."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
from dataclasses import dataclass
from pathlib import Path

import pyte

LINES = 200
"""Rows of the screen: all that a command prints stays on it."""


@dataclass(frozen=True)
class Typed:
    """What came of a command."""

    code: int
    """Exit code."""
    screen: list[str]
    """Lines on the screen at the end, without those that are empty."""
    raw: str
    """All that was written, escape sequences included."""

    @property
    def text(self) -> str:
        """The screen as one text."""
        return "\n".join(self.screen)


def type_command(
    *arguments: object, width: int = 80, folder: Path | None = None, interrupt_at: str | None = None
) -> Typed:
    """Type ``rscd ARGUMENTS`` on a terminal so many columns wide, and read the screen.

    Args:
        arguments: Those of rscd.
        width: Columns.
        folder: Where it is typed.
        interrupt_at: Press Ctrl-C once this (a regular expression) has been written.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        unwanted = "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"
        environment = {name: value for name, value in os.environ.items() if name not in unwanted}
        os.chdir(folder or Path.cwd())
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, width, 0, 0))
        command = [sys.executable, "-m", "rscd", *map(str, arguments)]
        os.execve(
            sys.executable, command, environment | {"TERM": "xterm-256color"}
        )  # readline hides COLUMNS in C's
    screen = pyte.Screen(width, LINES)
    stream, raw = pyte.ByteStream(screen), b""
    while True:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                part = os.read(terminal, 65536)
            except OSError:  # the other side is closed
                break
            raw += part
            stream.feed(part)
            if interrupt_at is not None and re.search(interrupt_at, raw.decode(errors="replace")):
                os.write(terminal, b"\x03")
                interrupt_at = None
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(terminal)
    lines = [line.rstrip() for line in screen.display]
    return Typed(code, [line for line in lines if line], raw.decode(errors="replace"))
