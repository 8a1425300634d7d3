"""Whether another program has a GeoPackage open, such as QGIS: then it is neither replaced nor read.

SQLite keeps changes in a file beside the database until they are in it (``-wal`` or ``-journal``). Put a new
database at its path, and SQLite replays the old changes into the new file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from rscd.core.errors import OutputError

MAGIC = b"SQLite format 3\0"
REMEDY = (
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
    """Hold a GeoPackage for ourselves, so that nobody changes it before it is replaced.

    Yields:
        A connection that no other shares; None where there is no SQLite database.

    Raises:
        OutputError: Another program has it open, or changes lie beside it.
    """
    for name in ("-wal", "-journal"):
        beside = path.with_name(path.name + name)
        if beside.is_file() and beside.stat().st_size:
            problem = f"changes that another program made are not in it yet ({beside.name} lies beside it)"
            raise OutputError(problem, path=path, remedy=REMEDY)
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
            raise OutputError("another program has it open", path=path, remedy=REMEDY) from error
        return False
    except sqlite3.DatabaseError:
        return False
    return True


def _is_sqlite(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False
