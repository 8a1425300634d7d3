"""Publishing: a file appears at its path complete, or not at all."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rscd.errors import OutputError, UsageError


@contextmanager
def publishing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside the target; put it in place when the body succeeds.

    The old file, if there is one, is intact until ``os.replace``. On any error the temporary file and what
    SQLite or GDAL may have left beside it are removed. The file and its folder are synced to disk.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        for left in path.parent.glob(f"{glob.escape(temporary.name)}*"):
            left.unlink(missing_ok=True)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Yield a path beside the target for intermediate data, and remove it afterwards."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.scratch")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a target before any work is done.

    Raises:
        UsageError: It exists and ``overwrite`` is off, or it is a folder.
        OutputError: Its folder does not exist or cannot be written, or the system takes no such name.
    """
    try:
        path.with_name(f".{path.name}.{os.getpid()}.scratch.rows.tif").is_file()  # the longest that we make of it
        str(path).encode()
    except (OSError, UnicodeEncodeError) as error:
        remedy = "choose a shorter, plain name"
        raise OutputError(f"cannot be a file's name here: {error}", path=path, remedy=remedy) from error
    if path.is_dir():
        raise UsageError("is a folder", path=path, remedy="name a file")
    if not path.parent.is_dir():
        raise OutputError(f"no folder {path.parent}", path=path, remedy=f"make it: mkdir -p '{path.parent}'")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"folder {path.parent} is not writable", path=path, remedy="choose another folder")
    if path.exists() and not overwrite:
        raise UsageError("exists already", path=path, remedy="add --overwrite to replace it")
