"""Checks of input and output files before any work: missing, existing, or open in another program.

Imports nothing heavy, so that a command can refuse at once.
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
"""Remedy for a missing image."""
VECTORS = "give a vector file with polygons, e.g. GeoJSON"
"""Remedy for a missing area."""
MANIFEST = "give a manifest, or --before-dir and --after-dir"
"""Remedy for a missing manifest."""


def is_file(path: Path) -> bool:
    """Whether a path is a file; also False for a name that the system does not accept, e.g. a too long one."""
    with suppress(OSError):
        return path.is_file()
    return False


def require_file(path: Path, remedy: str = GEOTIFF) -> None:
    """Refuse a path that is not a file.

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
"""File in which a publication records the outputs that it puts in place."""
RUN_FILES = (LOCK_NAME, KEY_NAME, SPLIT_NAME, RECORD_NAME, "*.strip", "*.tail", ".*.tmp")
"""All files of a run folder."""
MOUNTS = Path("/proc/self/mountinfo")


@dataclass(frozen=True)
class Targets:
    """The output files of a run."""

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
        """Refuse outputs that could not be published at the end.

        Files that an earlier run put in place before it died may be replaced.

        Args:
            inputs: Files that are read.
            overwrite: Whether existing outputs may be replaced.

        Raises:
            UsageError: An output exists and ``overwrite`` is off, is not a regular file, is an input or named
                twice; or other files are in the place of the run folder.
            OutputError: A folder does not exist or cannot be written, a mount is in the way, or another program
                has the GeoPackage open.
        """
        record = publication_record(self.vector)
        taken = {path.resolve() for path in inputs}
        for path in self.paths:
            if path.resolve() in taken:
                raise UsageError("is also an input or another output", path=path, remedy="name another file")
            taken.add(path.resolve())
            check_target(path, overwrite=overwrite or placed_by_dead_run(path, record))
        _check_run_folder(run_folder(self.vector))
        if self.vector.suffix.lower() == ".gpkg":
            refuse_held(self.vector)


def siblings(path: Path) -> tuple[Path, ...]:
    """Files next to the vector file with extent and provenance, unless it contains them itself.

    Their names contain the whole file name, so that ``x.fgb`` and ``x.geojson`` do not share them.
    """
    if path.suffix.lower() == ".gpkg":
        return ()
    return path.with_name(f"{path.name}.extent{path.suffix}"), path.with_name(f"{path.name}.json")


def legend_of(raster: Path) -> Path:
    """The QML next to the probability raster, from which QGIS takes colours and legend."""
    return raster.with_suffix(".qml")


def run_folder(output: Path) -> Path:
    """The folder next to an output that contains its lock and its finished strips."""
    return output.with_name(output.name + ".rscd")


def publication_record(output: Path) -> Path:
    """File in which a run records outputs while it puts them in place."""
    return run_folder(output) / RECORD_NAME


def placed_by_dead_run(path: Path, record: Path) -> bool:
    """Whether the file at ``path`` was put there by a run that died before all its outputs were in place."""
    try:
        placed = json.loads(record.read_text(encoding="utf-8")).get(str(path.absolute()))
        return placed is not None and bool(placed == identity(path))
    except (OSError, ValueError, AttributeError):
        return False


def identity(path: Path) -> list[int] | None:
    """Properties of a file that ``os.replace`` keeps: inode, size, modification time in ns; None if missing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a target before any work is done. A symbolic link is resolved.

    Raises:
        UsageError: It exists and ``overwrite`` is off, is not a regular file, or has a control character in its
            name.
        OutputError: Its folder does not exist or cannot be written, the system does not accept the name, or a file
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
    """Kind of the object at a path, as text, if it is not a regular file; else empty."""
    with suppress(OSError):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return "a folder"
        if not stat.S_ISREG(mode):
            return "a device, pipe or socket"
    return ""


def _is_mounted(path: Path) -> bool:
    """Whether a file is itself a mount point, as in containers; False if that is unknown."""
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
            "is in the place of the run's folder", path=folder, remedy="move it, or name another output"
        )
    with suppress(OSError):
        for path in sorted(folder.glob("*")) + sorted(folder.glob(".*")):
            if not any(fnmatchcase(path.name, pattern) for pattern in RUN_FILES):
                problem = f"contains {path.name}, which is not from rscd"
                raise UsageError(problem, path=folder, remedy="move that folder, or name another output")


SQLITE = b"SQLite format 3\0"
CLOSE_IT = (
    "close it in that program, such as QGIS, and run again; if none has it open, open and close it in QGIS once"
)


def refuse_held(path: Path) -> None:
    """Refuse a GeoPackage that another program has open, or did not close properly; ignore a missing file.

    Raises:
        OutputError: It is open elsewhere, or has unfinished changes next to it.
    """
    with held(path):
        pass


@contextmanager
def held(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Lock a GeoPackage, so that no other program, such as QGIS, changes it before it is replaced.

    SQLite keeps changes in a file next to the database until they are written to it (``-wal`` or ``-journal``). If
    a new database were put at its path, SQLite would replay the old changes into the new file.

    Yields:
        An exclusive connection; None if there is no SQLite database.

    Raises:
        OutputError: Another program has it open, or it has unfinished changes next to it.
    """
    for name in ("-wal", "-journal"):
        beside = path.with_name(path.name + name)
        if beside.is_file() and beside.stat().st_size:
            problem = f"changes of another program are not in it yet ({beside.name} is next to it)"
            raise OutputError(problem, path=path, remedy=CLOSE_IT)
    if not _is_sqlite(path):
        yield None
        return
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as database:
        yield database if _take(database, path) else None


def _take(database: sqlite3.Connection, path: Path) -> bool:
    """Lock a database; False if it is not a database after all."""
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
