"""Files that are read and written: what is missing, in the way or open elsewhere is said before any work.

Nothing heavy is imported here, so that a command can refuse at once.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from rscd.core.errors import DataError, OutputError, UsageError

GEOTIFF = "give the path of a GeoTIFF"
"""What to do where an image is missing."""
VECTORS = "give a vector file with polygons, e.g. GeoJSON"
"""What to do where an area is missing."""
MANIFEST = "give a manifest, or --before-dir and --after-dir"
"""What to do where a manifest is missing."""


def is_file(path: Path) -> bool:
    """Whether a path is that of a file; False too where the system takes no such name, e.g. for its length."""
    with suppress(OSError):
        return path.is_file()
    return False


def require_file(path: Path, remedy: str = GEOTIFF) -> None:
    """Refuse a path that is no file's.

    Raises:
        DataError: It is missing, or a folder.
    """
    if not is_file(path):
        folder = False
        with suppress(OSError):
            folder = path.is_dir()
        raise DataError("is a folder" if folder else "no such file", path=path, remedy=remedy)


LOCK_NAME = "lock"
KEY_NAME = "journal.json"
SPLIT_NAME = "split.json"
RECORD_NAME = "published.json"
"""Where a publication notes what it puts in place."""
RUN_FILES = (LOCK_NAME, KEY_NAME, SPLIT_NAME, RECORD_NAME, "*.strip", "*.tail", ".*.tmp")
"""All that a run folder holds."""
MOUNTS = Path("/proc/self/mountinfo")


@dataclass(frozen=True)
class Targets:
    """The files that a run is to write."""

    vector: Path
    """Vector file, in the format of its suffix."""
    probability: Path | None = None
    """Probability raster, if any."""
    report: Path | None = None
    """Report page, if any."""
    project: Path | None = None
    """QGIS project, if any."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        raster = (self.probability, legend_of(self.probability)) if self.probability is not None else ()
        pages = (path for path in (self.report, self.project) if path is not None)
        return (self.vector, *siblings(self.vector), *raster, *pages)

    def check(self, inputs: Iterable[Path], *, overwrite: bool) -> None:
        """Refuse what could not be published in the end.

        What an earlier run put in place, dying in the middle, may be replaced.

        Args:
            inputs: Files that are read.
            overwrite: Existing outputs may be replaced.

        Raises:
            UsageError: An output exists and ``overwrite`` is off, is no regular file, is an input or named twice;
                what lies at the run folder's place is not ours.
            OutputError: A folder does not exist or cannot be written, a mount is in the way, or another program
                has the GeoPackage open.
        """
        record = publication_record(self.vector)
        taken = {path.resolve() for path in inputs}
        for path in self.paths:
            if path.resolve() in taken:
                raise UsageError("is an input or another output too", path=path, remedy="name another file")
            taken.add(path.resolve())
            check_target(path, overwrite=overwrite or placed_by_dead_run(path, record))
        _check_run_folder(run_folder(self.vector))
        if self.vector.suffix.lower() == ".gpkg":
            refuse_held(self.vector)


def siblings(path: Path) -> tuple[Path, ...]:
    """What is written beside the vector file, extent and provenance, unless it holds them itself.

    They are named after the whole file name, so that ``x.fgb`` and ``x.geojson`` do not share them.
    """
    if path.suffix.lower() == ".gpkg":
        return ()
    return path.with_name(f"{path.name}.extent{path.suffix}"), path.with_name(f"{path.name}.json")


def legend_of(raster: Path) -> Path:
    """The QML beside the probability raster, which QGIS takes its colours and legend from."""
    return raster.with_suffix(".qml")


def run_folder(output: Path) -> Path:
    """The folder beside an output that holds its lock, and what is finished of it."""
    return output.with_name(output.name + ".rscd")


def publication_record(output: Path) -> Path:
    """Where a run notes what it puts in place, while it does."""
    return run_folder(output) / RECORD_NAME


def placed_by_dead_run(path: Path, record: Path) -> bool:
    """Whether the file at ``path`` was put there by a run that died before all its outputs were in place."""
    try:
        placed = json.loads(record.read_text(encoding="utf-8")).get(str(path.absolute()))
        return placed is not None and bool(placed == identity(path))
    except (OSError, ValueError, AttributeError):
        return False


def identity(path: Path) -> list[int] | None:
    """What ``os.replace`` keeps of a file: inode, size, modification time in ns; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a target before any work is done. A symbolic link stands for what it leads to.

    Raises:
        UsageError: It exists and ``overwrite`` is off, is no regular file, or has a control character in its name.
        OutputError: Its folder does not exist or cannot be written, the system takes no such name, or a file
            system is mounted there.
    """
    try:
        longest = f".{path.name}.{os.getpid()}.tmp.rows.tif" + 8 * ".ovr"
        path.with_name(longest).is_file()
        str(path).encode()
    except (OSError, UnicodeEncodeError) as error:
        remedy = "choose a shorter, plain name"
        raise OutputError(f"cannot be a file's name here: {error}", path=path, remedy=remedy) from error
    if not path.name.isprintable():
        raise UsageError("has a control character in its name", path=repr(str(path)), remedy="choose a plain name")
    _check_place(path, Path(os.path.realpath(path)))
    if path.exists() and not overwrite:
        raise UsageError("exists already", path=path, remedy="add --overwrite to replace it")


def _check_place(path: Path, real: Path) -> None:
    kind = _kind(real)
    if kind:
        raise UsageError(f"is {kind}", path=path, remedy="name a file")
    if not real.parent.is_dir():
        raise OutputError(f"no folder {real.parent}", path=path, remedy=f"make it: mkdir -p '{real.parent}'")
    if not os.access(real.parent, os.W_OK):
        raise OutputError(f"folder {real.parent} is not writable", path=path, remedy="choose another folder")
    if _is_mounted(real):
        remedy = "write to a folder that is mounted as a whole"
        raise OutputError("is mounted as a single file, and cannot be replaced", path=path, remedy=remedy)


def _kind(path: Path) -> str:
    """What lies at a path, in words, if it is no regular file; empty if it is one, or nothing is there."""
    with suppress(OSError):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return "a folder"
        if not stat.S_ISREG(mode):
            return "a device, pipe or socket"
    return ""


def _is_mounted(path: Path) -> bool:
    """Whether a file is a mount point of its own, as containers bind single files; False where that is unknown."""
    if not path.exists():
        return False
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    escaped = str(path).replace("\\", r"\134").replace(" ", r"\040")
    return any(line.split(" ")[4] == escaped for line in lines)


def _check_run_folder(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(
            "lies where the run's folder is to be", path=folder, remedy="move it, or name another output"
        )
    with suppress(OSError):
        for path in sorted(folder.glob("*")) + sorted(folder.glob(".*")):
            if not any(fnmatchcase(path.name, pattern) for pattern in RUN_FILES):
                problem = f"holds {path.name}, which is not rscd's"
                raise UsageError(problem, path=folder, remedy="move that folder, or name another output")


SQLITE = b"SQLite format 3\0"
CLOSE_IT = (
    "close it in that program, such as QGIS, and run again; if none has it open, open and close it in QGIS once"
)


def refuse_held(path: Path) -> None:
    """Refuse a GeoPackage that another program has open, or did not close well; where there is none, do nothing.

    Raises:
        OutputError: It is open elsewhere, or changes lie beside it.
    """
    with held(path):
        pass


@contextmanager
def held(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Hold a GeoPackage for ourselves, so that nobody, such as QGIS, changes it before it is replaced.

    SQLite keeps changes in a file beside the database until they are in it (``-wal`` or ``-journal``). Put a new
    database at its path, and SQLite replays the old changes into the new file.

    Yields:
        A connection that no other shares; None where there is no SQLite database.

    Raises:
        OutputError: Another program has it open, or changes lie beside it.
    """
    for name in ("-wal", "-journal"):
        beside = path.with_name(path.name + name)
        if beside.is_file() and beside.stat().st_size:
            problem = f"changes that another program made are not in it yet ({beside.name} lies beside it)"
            raise OutputError(problem, path=path, remedy=CLOSE_IT)
    if not _is_sqlite(path):
        yield None
        return
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as database:
        yield database if _take(database, path) else None


def _take(database: sqlite3.Connection, path: Path) -> bool:
    """Lock a database; False where it is none after all."""
    try:
        database.execute("PRAGMA locking_mode=EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise OutputError("another program has it open", path=path, remedy=CLOSE_IT) from error
        return False
    except sqlite3.DatabaseError:
        return False
    return True


def _is_sqlite(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(SQLITE)) == SQLITE
    except OSError:
        return False
