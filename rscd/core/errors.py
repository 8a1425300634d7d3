"""The errors of rscd, each with path, value, remedy and exit code; and counts in messages."""

from __future__ import annotations

import re
from pathlib import Path

FLAGS = re.compile("--(overwrite|force-gsd|assume-same-crs|discard-reviews|checkpointing|allow-remote)(?![a-z-])")
"""Switches of the command line; in Python they are boolean fields."""


def _in_python(flag: re.Match[str]) -> str:
    return f"{flag[1].replace('-', '_')}=True"


class RscdError(Exception):
    """Base class of all errors that rscd raises intentionally.

    Args:
        problem: What is wrong, with the wrong value.
        path: The file or folder concerned, if any.
        remedy: What the user can do about it, as an imperative.
    """

    exit_code = 1
    line: str
    """The whole message in one line, with options as on the command line."""

    def __init__(self, problem: str, *, path: str | Path | None = None, remedy: str = "") -> None:
        self.problem, self.path, self.remedy = problem, path, remedy
        where = f"{path}: " if path is not None else ""
        then = f" - {remedy}" if remedy else ""
        self.line = " ".join(f"{where}{problem}{then}".split())
        super().__init__(FLAGS.sub(_in_python, f"{where}{problem}{then}"))


class UsageError(RscdError):
    """An invalid option, or combination of options."""

    exit_code = 2


class DataError(RscdError):
    """The pair, or the training data, was refused."""

    exit_code = 3


class ModelError(RscdError):
    """The model file was refused."""

    exit_code = 4


class OutputError(RscdError):
    """An output could not be written."""

    exit_code = 7


class Interrupted(RscdError):
    """The run was stopped, or lost its device; run again, it continues."""

    exit_code = 5


def several(count: int, thing: str) -> str:
    """A count with its noun, in the plural unless the count is one: ``1 polygon``, ``2,345 polygons``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
