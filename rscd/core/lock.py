"""The lock of an output: one run at a time writes it. It ends with its process, however that ends."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import lock_descriptor

from rscd.core.errors import OutputError
from rscd.core.paths import KEY_NAME, LOCK_NAME, RECORD_NAME, SPLIT_NAME, run_folder
from rscd.core.publish import writing

_NOT_OFFERED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_HOLDER_AT = 1
"""Where in the file its holder is named: on Windows nobody can read the first byte, which is locked."""


@contextmanager
def locked(output: Path) -> Iterator[Path]:
    """Hold the lock of an output; yields its run folder, which is removed in the end if no strip is in it.

    The lock is the system's: a process that dies, by any signal, releases it, and the next run takes over. The
    file names the holder.

    Raises:
        OutputError: Another run holds it, or the folder cannot be made.
    """
    folder = run_folder(output)
    descriptor = _take(folder, output)
    try:
        yield folder
    finally:
        if sys.platform == "win32":  # which removes no file that is open
            os.close(descriptor)
            _remove_if_empty(folder)
        else:
            _remove_if_empty(folder)
            os.close(descriptor)


def _remove_if_empty(folder: Path) -> None:
    """Remove a run folder in which no strip is."""
    with suppress(OSError, OutputError):
        if not any(folder.glob("*.strip")):
            clear(folder)
            (folder / LOCK_NAME).unlink()
            folder.rmdir()


def _take(folder: Path, output: Path) -> int:
    """Open and lock the file; returns its descriptor."""
    path = folder / LOCK_NAME
    try:
        while True:
            folder.mkdir(exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            if not _lock(descriptor):
                raise _held(descriptor, output)
            if _is_at(descriptor, path):
                break
            os.close(descriptor)  # the run before removed it between our two steps
        os.ftruncate(descriptor, 0)
        os.write(descriptor, b" " + json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
    except OSError as error:
        remedy = "see that the folder is writable and has room, then run again"
        raise OutputError(f"could not be made ({error})", path=path, remedy=remedy) from error
    return descriptor


def _lock(descriptor: int) -> bool:
    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError as error:
        if error.errno in _NOT_OFFERED:  # some network file systems: go on without
            return True
        raise


def _is_at(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _held(descriptor: int, output: Path) -> OutputError:
    """Who holds the lock, as an error."""
    try:
        os.lseek(descriptor, _HOLDER_AT, os.SEEK_SET)
        named = json.loads(os.read(descriptor, 1000))
        holder = f"process {named['pid']} on {named['host']}"
    except (ValueError, KeyError, TypeError):
        holder = "another process"
    finally:
        os.close(descriptor)
    return OutputError(f"{holder} is writing it", path=output, remedy="wait for it, or name another output")


def clear(folder: Path) -> None:
    """Remove a journal's files from its folder, and last what lets the next run replace what this one published."""
    with writing(folder):
        for pattern in (KEY_NAME, SPLIT_NAME, "*.strip", "*.tail", ".*.tmp", RECORD_NAME):
            for path in folder.glob(pattern):
                path.unlink(missing_ok=True)
