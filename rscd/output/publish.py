"""Publishing: files appear at their paths complete, or not at all.

Outputs are written beside their targets under names of our own. When all of them are ready they are synced to disk
and put in place, one ``os.replace`` after the other; until then older outputs are untouched.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from rscd.errors import OutputError, UsageError

REMEDY = "see that the folder is writable and has room, then run again"


class Publication:
    """The outputs of one run.

    Args:
        record: Where to note which files are put in place; the caller removes it when the run is over. See
            ``placed_by_dead_run``.
    """

    def __init__(self, record: Path | None = None) -> None:
        self._record = record
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
        """Where to write the file that will be put at ``target``."""
        remove_leftovers(target)
        self._files[target] = target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")
        return self._files[target]

    def publish(self) -> None:
        """Put all files in place, synced to disk with their folders.

        Raises:
            OutputError: A file cannot be synced or put in place.
        """
        for target, temporary in self._files.items():
            with writing(target):
                _sync(temporary)
        if self._record is not None:
            told = {str(target.absolute()): _identity(temporary) for target, temporary in self._files.items()}
            write_durably(self._record, json.dumps(told).encode())
        for target, temporary in self._files.items():
            with writing(target):
                temporary.replace(target)
        for folder in {target.parent for target in self._files}:
            with writing(folder):
                _sync(folder)


@contextmanager
def publishing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside the target; put it in place when the body succeeds.

    The old file, if there is one, is intact until ``os.replace``. On any error what was written is removed.
    """
    with Publication() as publication:
        yield publication.beside(path)
        publication.publish()


def placed_by_dead_run(path: Path, record: Path) -> bool:
    """Whether the file at ``path`` was put there by a run that died before all its outputs were in place."""
    try:
        placed = json.loads(record.read_text(encoding="utf-8")).get(str(path.absolute()))
        return bool(placed == _identity(path))
    except (OSError, ValueError, AttributeError):
        return False


def _identity(path: Path) -> list[int]:
    """What ``os.replace`` keeps of a file: inode, size, modification time in ns."""
    stat = path.stat()
    return [stat.st_ino, stat.st_size, stat.st_mtime_ns]


def remove_leftovers(target: Path) -> None:
    """Remove temporary files of ``target`` whose process is gone: killed, it could not do so itself."""
    ours = re.compile(rf"\.{re.escape(target.stem)}\.(\d+)\.tmp{re.escape(target.suffix)}")
    for path in target.parent.glob(f".{glob.escape(target.stem)}.*"):
        named = ours.match(path.name)
        if named is not None and not is_alive(int(named[1])):
            path.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Whether a process of this machine has this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


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
    """Bring a file or a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
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
        longest = f".{path.name}.{os.getpid()}.tmp.rows.tif" + 8 * ".ovr"
        path.with_name(longest).is_file()
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
