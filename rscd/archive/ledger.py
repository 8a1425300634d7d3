"""The ledger: what became of each pair, in SQLite (WAL), so that a run that was cut off goes on where it was."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from rscd.archive.job import PairJob, PairOutcome
from rscd.errors import OutputError, UsageError

LEDGER, LOCK = "ledger.sqlite", "ledger.lock"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS pairs (
    id TEXT PRIMARY KEY,
    position INTEGER,              -- in the manifest of the last run; NULL where it is not in it
    before TEXT NOT NULL, after TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'running', 'done', 'failed')),
    started TEXT, ended TEXT,      -- UTC, ISO 8601
    seconds REAL, windows INTEGER, polygons INTEGER, changed_m2 REAL, observed_km2 REAL, not_observable_km2 REAL,
    error TEXT NOT NULL DEFAULT '', exit_code INTEGER NOT NULL DEFAULT 0,
    fingerprint TEXT NOT NULL DEFAULT '', worker TEXT NOT NULL DEFAULT '',
    runs INTEGER NOT NULL DEFAULT 0 -- how often it was started
) STRICT;
"""


@dataclass(frozen=True)
class Entry:
    """What the ledger knows of a pair."""

    id: str
    """Its name."""
    before: str
    """Its earlier date."""
    after: str
    """Its later date."""
    state: str
    """``pending``, ``running``, ``done`` or ``failed``."""
    ended: str
    """When it was done or failed, UTC, ISO 8601; empty if never."""
    seconds: float
    """How long it took, s."""
    polygons: int
    """Changes found."""
    changed_m2: float
    """Their area, m2."""
    observed_km2: float
    """What both dates show, km2."""
    not_observable_km2: float
    """What at least one date does not show, km2."""
    error: str
    """Why it failed."""
    fingerprint: str
    """What it was done with."""


class Ledger:
    """The ledger of an archive; one run holds it at a time.

    Args:
        folder: The archive's folder.

    Raises:
        UsageError: Another run holds it.
        OutputError: It cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LEDGER
        try:
            self._lock = (folder / LOCK).open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise UsageError("another rscd batch is at work in it", path=folder, remedy="wait for it") from error
        except OSError as error:
            raise OutputError(f"cannot be written: {error}", path=folder, remedy="choose another folder") from error
        try:
            self._database = sqlite3.connect(self.path, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(_SCHEMA)
        except sqlite3.Error as error:
            self._lock.close()
            remedy = "move it away: all pairs then run anew"
            raise OutputError(f"is no ledger that can be used: {error}", path=self.path, remedy=remedy) from error

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(sqlite3.Error):
            self._database.execute("UPDATE pairs SET state = 'pending' WHERE state = 'running'")
        self._database.close()
        self._lock.close()

    def expect(self, jobs: Iterable[PairJob]) -> None:
        """Take the manifest's pairs; what a run that was cut off left running is pending again."""
        rows = [(k, job.id, str(job.config.before), str(job.config.after)) for k, job in enumerate(jobs)]
        with self._database:
            self._database.execute("BEGIN")
            self._database.execute("UPDATE pairs SET position = NULL")
            self._database.execute("UPDATE pairs SET state = 'pending' WHERE state = 'running'")
            self._database.executemany(
                "INSERT INTO pairs (position, id, before, after) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
                " SET position = excluded.position, before = excluded.before, after = excluded.after",
                rows,
            )

    def start(self, job: PairJob) -> None:
        """Note that a pair is given to a worker."""
        self._database.execute(
            "UPDATE pairs SET state = 'running', started = ?, runs = runs + 1 WHERE id = ?", (_now(), job.id)
        )

    def forget(self, ids: Sequence[str]) -> None:
        """Pairs whose results are of other inputs, model or options than now are pending."""
        self._database.executemany("UPDATE pairs SET state = 'pending' WHERE id = ?", [(one,) for one in ids])

    def record(self, outcome: PairOutcome) -> None:
        """Note what became of a pair."""
        self._database.execute(
            "UPDATE pairs SET state = :state, ended = :ended, seconds = :seconds, windows = :windows,"
            " polygons = :polygons, changed_m2 = :changed_m2, observed_km2 = :observed_km2,"
            " not_observable_km2 = :not_observable_km2, error = :error, exit_code = :exit_code,"
            " fingerprint = :fingerprint, worker = :worker WHERE id = :id",
            asdict(outcome) | {"ended": _now()},
        )

    def entries(self) -> list[Entry]:
        """The manifest's pairs, in its order."""
        rows = self._database.execute(
            "SELECT id, before, after, state, coalesce(ended, ''), coalesce(seconds, 0), coalesce(polygons, 0),"
            " coalesce(changed_m2, 0), coalesce(observed_km2, 0), coalesce(not_observable_km2, 0), error,"
            " fingerprint FROM pairs WHERE position IS NOT NULL ORDER BY position"
        )
        return [Entry(*row) for row in rows]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
