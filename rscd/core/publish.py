"""Publishing: outputs appear at their paths complete, or not at all, and only one run at a time writes them.

Outputs are written next to their targets under temporary names. When all of them are ready they are synced to disk
and put in place, one ``os.replace`` after the other; until then older outputs are untouched. The lock of an output
ends with its process, in any case.
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
        record: File that records the outputs put in place; the caller removes it after the run. See
            ``paths.placed_by_dead_run``.
        overwrite: Whether existing files may be replaced; otherwise only files left by a dead run may exist.
    """

    def __init__(self, record: Path | None = None, *, overwrite: bool = True) -> None:
        self._record, self._overwrite = record, overwrite
        self._files: dict[Path, Path] = {}

    def __enter__(self) -> Publication:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove unpublished files, and what SQLite or GDAL may have left next to them."""
        for temporary in self._files.values():
            for left in temporary.parent.glob(f"{glob.escape(temporary.name)}*"):
                left.unlink(missing_ok=True)

    def beside(self, target: Path) -> Path:
        """Temporary path for the file that will be put at ``target``; a symbolic link is resolved."""
        real = Path(os.path.realpath(target))
        remove_leftovers(real)
        self._files[target] = real.with_name(f".{real.stem}.{os.getpid()}.tmp{real.suffix}")
        return self._files[target]

    def publish(self) -> None:
        """Put all files in place, synced to disk with their folders.

        Raises:
            OutputError: A file cannot be synced or put in place, or another file has appeared at a target.
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
        """Without ``overwrite``, check that no file has appeared at a target."""
        for target in [] if self._overwrite else self._files:
            ours = self._record is not None and placed_by_dead_run(target, self._record)
            if identity(target) is not None and not ours:
                problem = "appeared during this run"
                raise OutputError(problem, path=target, remedy="move it away, or add --overwrite, and run again")


@contextmanager
def publishing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to the target; put it in place when the body succeeds.

    An existing file is intact until ``os.replace``. On any error the temporary file is removed.
    """
    with Publication() as publication:
        yield publication.beside(path)
        publication.publish()


def remove_leftovers(target: Path) -> None:
    """Remove temporary files of ``target`` whose process was killed."""
    ours = re.compile(rf"\.{re.escape(target.stem)}\.(\d+)\.tmp{re.escape(target.suffix)}")
    for path in target.parent.glob(f".{glob.escape(target.stem)}.*"):
        named = ours.match(path.name)
        if named is not None and not psutil.pid_exists(int(named[1])):
            path.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes) -> None:
    """Write bytes to ``path`` atomically, and safe from power loss.

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
    """Convert errors of the file system, and ``errors`` of a library, to an OutputError about ``path``."""
    caught: tuple[type[Exception], ...] = (OSError, *errors)
    try:
        yield
    except caught as error:
        raise OutputError(f"could not be written ({error})", path=path, remedy=REMEDY) from error


def _sync(path: Path) -> None:
    """Sync a file or a folder to disk; Windows does not support it for folders."""
    if sys.platform == "win32" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_NOT_OFFERED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_HOLDER_AT = 1
"""Position of the holder's name in the file: on Windows the first byte is locked and cannot be read."""


@contextmanager
def locked(output: Path) -> Iterator[Path]:
    """Hold the lock of an output; yields its run folder, which is removed at the end if it contains no strip.

    It is a lock of the operating system: a process that dies, by any signal, releases it, and the next run takes
    over. The file names the holder.

    Raises:
        OutputError: Another run holds it, or the folder cannot be created.
    """
    folder = run_folder(output)
    descriptor = _take(folder, output)
    try:
        yield folder
    finally:
        if sys.platform == "win32":  # which cannot remove an open file
            os.close(descriptor)
            _remove_if_empty(folder)
        else:
            _remove_if_empty(folder)
            os.close(descriptor)


def _remove_if_empty(folder: Path) -> None:
    """Remove a run folder without strips."""
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
            os.close(descriptor)  # the previous run removed it between our two steps
        os.ftruncate(descriptor, 0)
        os.write(descriptor, b" " + json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
    except OSError as error:
        raise OutputError(f"could not be created ({error})", path=path, remedy=REMEDY) from error
    return descriptor


def _lock(descriptor: int) -> bool:
    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError as error:
        if error.errno in _NOT_OFFERED:  # some network file systems: continue without a lock
            return True
        raise


def _is_at(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _held(descriptor: int, output: Path) -> OutputError:
    """An error that names the holder of the lock."""
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
    """Remove a journal's files from its folder; last the record that lets the next run replace published files."""
    with writing(folder):
        for pattern in (KEY_NAME, SPLIT_NAME, "*.strip", "*.tail", ".*.tmp", RECORD_NAME):
            for path in folder.glob(pattern):
                path.unlink(missing_ok=True)
