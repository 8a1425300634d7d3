"""Publishing: files appear at their paths complete, or not at all, and one run at a time writes them.

Outputs are written beside their targets under names of our own. When all of them are ready they are synced to disk
and put in place, one ``os.replace`` after the other; until then older outputs are untouched. The lock of an output
ends with its process, however that ends.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

import psutil
from filelock import lock_descriptor

from rscd.core.errors import OutputError
from rscd.core.paths import KEY_NAME, LOCK_NAME, RECORD_NAME, SPLIT_NAME, identity, placed_by_dead_run, run_folder

REMEDY = "check that the folder is writable and has free space, then run again"


class Publication:
    """The outputs of one run.

    Args:
        record: Where to note which files are put in place; the caller removes it when the run is over. See
            ``paths.placed_by_dead_run``.
        overwrite: Files at the targets may be replaced; else nothing may be there but what a dead run left.
    """

    def __init__(self, record: Path | None = None, *, overwrite: bool = True) -> None:
        self._record, self._overwrite = record, overwrite
        self._files: dict[Path, Path] = {}

    def __enter__(self) -> Publication:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove what was not published, and what SQLite or GDAL may have left beside it."""
        for temporary in self._files.values():
            for left in temporary.parent.glob(f"{glob.escape(temporary.name)}*"):
                left.unlink(missing_ok=True)

    def beside(self, target: Path) -> Path:
        """Where to write the file that will be put at ``target``; a symbolic link stands for what it leads to."""
        real = Path(os.path.realpath(target))
        remove_leftovers(real)
        self._files[target] = real.with_name(f".{real.stem}.{os.getpid()}.tmp{real.suffix}")
        return self._files[target]

    def publish(self) -> None:
        """Put all files in place, synced to disk with their folders.

        Raises:
            OutputError: A file cannot be synced or put in place, or another has appeared where one is to be.
        """
        self._refuse_others()
        for target, temporary in self._files.items():
            with writing(target):
                _sync(temporary)
        if self._record is not None:
            noted = {str(target.absolute()): identity(temporary) for target, temporary in self._files.items()}
            write_durably(self._record, json.dumps(noted).encode())
        for target, temporary in self._files.items():
            with writing(target):
                temporary.replace(Path(os.path.realpath(target)))
        for folder in {temporary.parent for temporary in self._files.values()}:
            with writing(folder):
                _sync(folder)

    def _refuse_others(self) -> None:
        """Without ``overwrite``, nothing may have appeared where a file is to be."""
        for target in [] if self._overwrite else self._files:
            ours = self._record is not None and placed_by_dead_run(target, self._record)
            if identity(target) is not None and not ours:
                problem = "appeared while this run was at work"
                raise OutputError(problem, path=target, remedy="move it away, or add --overwrite, and run again")


@contextmanager
def publishing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside the target; put it in place when the body succeeds.

    The old file, if there is one, is intact until ``os.replace``. On any error what was written is removed.
    """
    with Publication() as publication:
        yield publication.beside(path)
        publication.publish()


def remove_leftovers(target: Path) -> None:
    """Remove temporary files of ``target`` whose process is gone: killed, it could not do so itself."""
    ours = re.compile(rf"\.{re.escape(target.stem)}\.(\d+)\.tmp{re.escape(target.suffix)}")
    for path in target.parent.glob(f".{glob.escape(target.stem)}.*"):
        named = ours.match(path.name)
        if named is not None and not psutil.pid_exists(int(named[1])):
            path.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes) -> None:
    """Put bytes at ``path`` whole or not at all, and safe from a loss of power.

    Raises:
        OutputError: They cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(path.parent)


@contextmanager
def writing(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Turn what the file system raises, and ``errors`` of a library, into an OutputError about ``path``."""
    caught: tuple[type[Exception], ...] = (OSError, *errors)
    try:
        yield
    except caught as error:
        raise OutputError(f"could not be written ({error})", path=path, remedy=REMEDY) from error


def _sync(path: Path) -> None:
    """Bring a file or a folder to disk; Windows does not offer it for a folder."""
    if sys.platform == "win32" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
        raise OutputError(f"could not be made ({error})", path=path, remedy=REMEDY) from error
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
