"""The ledger: state and result of each pair, in SQLite (WAL), so that an interrupted run can continue."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from filelock import lock_descriptor

from rscd.core.errors import DataError, OutputError, UsageError
from rscd.jobs.job import PairJob, PairOutcome

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
    runs INTEGER NOT NULL DEFAULT 0, -- how often it was started
    verdict TEXT NOT NULL DEFAULT '', model TEXT NOT NULL DEFAULT '', valid_share REAL, shift_px REAL
) STRICT;
"""
_ADDED = {
    "verdict": "TEXT NOT NULL DEFAULT ''",
    "model": "TEXT NOT NULL DEFAULT ''",
    "valid_share": "REAL",
    "shift_px": "REAL",
}
"""Columns that are missing in ledgers of the first version."""
WAIT_S = 2.0
"""How long to wait for another program to release the ledger, s."""


@dataclass(frozen=True)
class Entry:
    """A pair in the ledger."""

    id: str
    """Its name."""
    before: str
    """Path of its earlier date."""
    after: str
    """Path of its later date."""
    state: str
    """``pending``, ``running``, ``done`` or ``failed``."""
    ended: str
    """When it was done or failed, UTC, ISO 8601; empty if never."""
    seconds: float
    """Wall time, s."""
    polygons: int
    """Number of change polygons."""
    changed_m2: float
    """Their area, m2."""
    observed_km2: float
    """Area observable on both dates, km2."""
    not_observable_km2: float
    """Area not observable on at least one date, km2."""
    error: str
    """Why it failed; else empty."""
    fingerprint: str
    """Fingerprint of the inputs, model and options that it was done with."""
    verdict: str = ""
    """Whether the dates can be compared."""
    model: str = ""
    """Name and version of the model."""
    valid_share: float | None = None
    """Share of the overlap that is valid in both dates, 0..1."""
    shift_px: float | None = None
    """Measured shift between the dates, px."""


class Ledger:
    """The ledger of an archive; one run can use it at a time.

    Args:
        folder: The archive's folder.

    Raises:
        UsageError: Another run is using it.
        OutputError: It cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LEDGER
        try:
            self._lock = (folder / LOCK).open("w")
            free = lock_descriptor(self._lock.fileno(), blocking=False)
        except OSError as error:
            raise OutputError(f"cannot be written: {error}", path=folder, remedy="choose another folder") from error
        if not free:
            self._lock.close()
            raise UsageError("another rscd batch is using it", path=folder, remedy="wait for it")
        try:
            with self._usable():
                self._database = sqlite3.connect(self.path, isolation_level=None, timeout=WAIT_S)
                self._open()
        except OutputError:
            self._lock.close()
            raise

    def _open(self) -> None:
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(_SCHEMA)
        there = {name for _, name, *_ in self._database.execute("PRAGMA table_info(pairs)")}
        for name, kind in _ADDED.items():
            if name not in there:
                self._database.execute(f"ALTER TABLE pairs ADD COLUMN {name} {kind}")
        self._entries()  # detects tables of other programs, and damaged pages

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Turn errors of SQLite into one-line messages with a remedy."""
        try:
            yield
        except sqlite3.Error as error:
            if "locked" in str(error):
                problem, remedy = "another program has it open", "close it there, and run again"
            else:
                problem, remedy = f"is not a usable ledger: {error}", "move it away: all pairs then run again"
            raise OutputError(problem, path=self.path, remedy=remedy) from error

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(sqlite3.Error):
            self._database.execute("UPDATE pairs SET state = 'pending' WHERE state = 'running'")
        self._database.close()
        self._lock.close()

    def expect(self, jobs: Iterable[PairJob]) -> set[str]:
        """Add the manifest's pairs; returns those that were running when a run was cut off: now pending again."""
        rows = [(k, job.id, str(job.config.before), str(job.config.after)) for k, job in enumerate(jobs)]
        with self._usable(), self._database:
            cut = {one for (one,) in self._database.execute("SELECT id FROM pairs WHERE state = 'running'")}
            self._database.execute("BEGIN")
            self._database.execute("UPDATE pairs SET position = NULL")
            self._database.execute("UPDATE pairs SET state = 'pending' WHERE state = 'running'")
            self._database.executemany(
                "INSERT INTO pairs (position, id, before, after) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
                " SET position = excluded.position, before = excluded.before, after = excluded.after",
                rows,
            )
        return cut

    def start(self, job: PairJob) -> None:
        """Record that a pair is given to a worker."""
        with self._usable():
            self._database.execute(
                "UPDATE pairs SET state = 'running', started = ?, runs = runs + 1 WHERE id = ?", (_now(), job.id)
            )

    def forget(self, ids: Sequence[str]) -> None:
        """Set pairs to pending whose results were made with other inputs, model or options."""
        with self._usable():
            self._database.executemany("UPDATE pairs SET state = 'pending' WHERE id = ?", [(one,) for one in ids])

    def fail(self, name: str, error: str) -> None:
        """Set a finished pair to failed: its outputs cannot be read."""
        with self._usable():
            self._database.execute(
                "UPDATE pairs SET state = 'failed', error = ?, exit_code = ? WHERE id = ?",
                (error, DataError.exit_code, name),
            )

    def record(self, outcome: PairOutcome) -> None:
        """Record the outcome of a pair."""
        values = asdict(outcome)
        names = [name for name in values if name not in ("id", "reviews", "for_all")]
        listed = ", ".join(f"{name} = :{name}" for name in names)
        with self._usable():
            self._database.execute(
                f"UPDATE pairs SET {listed}, ended = :ended WHERE id = :id", values | {"ended": _now()}
            )

    def entries(self) -> list[Entry]:
        """The manifest's pairs, in its order."""
        with self._usable():
            return self._entries()

    def _entries(self) -> list[Entry]:
        rows = self._database.execute(
            "SELECT id, before, after, state, coalesce(ended, ''), coalesce(seconds, 0), coalesce(polygons, 0),"
            " coalesce(changed_m2, 0), coalesce(observed_km2, 0), coalesce(not_observable_km2, 0), error,"
            " fingerprint, verdict, model, valid_share, shift_px"
            " FROM pairs WHERE position IS NOT NULL ORDER BY position"
        )
        return [Entry(*row) for row in rows]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
