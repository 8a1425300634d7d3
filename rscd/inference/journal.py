"""The journal: finished strips on disk, so that a killed run can resume; and planning of the remaining work.

It is in the run folder next to the output: ``journal.json`` identifies the run, ``<k>.strip`` is a strip's record,
and ``<k>.tail`` holds the sums that blending passes to the next strip (float32; only the newest is kept; without it
the windows above are forwarded again). Each file is one zstd stream after its sha256: a file that does not match is
treated as missing. A strip is on disk, synced, before any later stage gets it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from rscd.core.errors import several
from rscd.core.paths import KEY_NAME, RECORD_NAME
from rscd.core.publish import clear, write_durably, writing
from rscd.core.types import ComponentTable, FloatArray, StripRecord
from rscd.inference.components import label_changes, record_digest
from rscd.scene.windows import WindowPlan

FORMAT = 2
"""Version of the file format."""
_COLUMNS = tuple(field.name for field in dataclasses.fields(ComponentTable))
_CODEC = pa.Codec("zstd", compression_level=1)
_HEAD = 64 + 1 + 16 + 1  # digest and size of the arrays, both in hex, one line each


class Journal:
    """The finished strips of a run; indexed by the strip's number.

    Args:
        folder: The run folder; it exists.
        plan: Plan that defines the rows of each strip.
        strips: Read only these, because other workers write the rest; default: all.
    """

    def __init__(self, folder: Path, plan: WindowPlan, strips: range | None = None) -> None:
        self._folder, self._plan = folder, plan
        self._thresholds: dict[int, int] = {}
        self._damaged: list[int] = []
        paths = sorted(folder.glob("*.strip")) if strips is None else [self._path(k, "strip") for k in strips]
        for path in paths:
            if path.exists():
                self._look_at(path)

    def _look_at(self, path: Path) -> None:
        index = int(path.stem) if path.stem.isdecimal() else -1
        found = _unpack(path)
        if found is not None and 0 <= index < self._plan.rows.count and self._fits(index, found):
            self._thresholds[index] = int(found["threshold"])
        else:
            self._damaged.append(index)
            path.unlink(missing_ok=True)

    def _fits(self, index: int, found: Mapping[str, Any]) -> bool:
        start, stop = self._plan.rows.strip(index)
        return int(found["row"]) == start and found["probability"].shape == (stop - start, self._plan.cols.size)

    def __contains__(self, index: object) -> bool:
        return index in self._thresholds

    def __len__(self) -> int:
        return len(self._thresholds)

    @property
    def damaged(self) -> tuple[int, ...]:
        """Strips that exist but cannot be used."""
        return tuple(self._damaged)

    def threshold(self, index: int) -> int:
        """The threshold (1..254) with which a strip's components were labelled."""
        return self._thresholds[index]

    def __getitem__(self, index: int) -> StripRecord:
        """The record of a strip."""
        found = _unpack(self._path(index, "strip"))
        assert found is not None, "a strip of the journal changed although this run holds its lock"
        row, threshold, probability = int(found["row"]), int(found["threshold"]), found["probability"]
        return StripRecord(
            index,
            row,
            probability,
            threshold,
            label_changes(probability, threshold),
            ComponentTable(**{name: found[name] for name in _COLUMNS}),
            tuple(json.loads(str(found["read_errors"]))),
            record_digest(index, row, probability),
            found.get("presence"),
        )

    def keep(self, record: StripRecord, tail: FloatArray) -> None:
        """Write a finished strip to disk, with the sums that blending passes to the next.

        Raises:
            OutputError: It cannot be written.
        """
        k = record.index
        path = self._path(k, "tail")
        with writing(path):
            path.write_bytes(_pack({"tail": tail}))  # not synced: it can be computed again
        arrays = {name: getattr(record.table, name) for name in _COLUMNS}
        arrays |= {"row": np.int64(record.row), "threshold": np.int64(record.threshold)}
        arrays |= {"read_errors": np.str_(json.dumps(record.read_errors)), "probability": record.probability}
        arrays |= {} if record.presence is None else {"presence": record.presence}
        write_durably(self._path(k, "strip"), _pack(arrays))
        self._path(k - 1, "tail").unlink(missing_ok=True)
        self._thresholds[k] = record.threshold

    def tail(self, index: int) -> FloatArray | None:
        """Sums that blending passes on below a finished strip, (..., overlap, columns); None if not kept."""
        found = _unpack(self._path(index, "tail"))
        expected = self._plan.rows.overlap, self._plan.cols.size
        return found["tail"] if found is not None and found["tail"].shape[-2:] == expected else None

    def close(self, *, keep: bool) -> None:
        """After everything is published: remove the files, unless ``keep``."""
        if keep:
            (self._folder / RECORD_NAME).unlink(missing_ok=True)
        else:
            clear(self._folder)

    def _path(self, index: int, kind: str) -> Path:
        return self._folder / f"{index:06}.{kind}"


def open_journal(
    folder: Path,
    plan: WindowPlan,
    key: Mapping[str, Any],
    *,
    resume: bool = True,
    notify: Callable[[str], None] = lambda line: None,
) -> Journal:
    """Open the journal of a run, or start a new one if there is none or it belongs to another run.

    Args:
        folder: The run folder, locked.
        plan: The windows.
        key: Everything that a strip's bytes depend on, as JSON holds it.
        resume: Whether to use existing strips.
        notify: Called with a message on existing strips.

    Raises:
        OutputError: The folder cannot be written.
    """
    key = plain_key(key)
    old = read_key(folder)
    if old != key or not resume:
        if old is not None:
            why = ", ".join(differences(old, key)) if resume else "--no-resume"
            notify(f"starting from the beginning, not from {folder.name}: {why}")
        clear(folder)
        write_durably(folder / KEY_NAME, json.dumps(key, indent=1).encode())
    journal = Journal(folder, plan)
    if journal.damaged:
        notify(f"{folder.name}: {several(len(journal.damaged), 'damaged strip')} computed again")
    if len(journal):
        notify(f"resuming: {len(journal)} of {several(plan.rows.count, 'strip')} finished in {folder.name}")
    return journal


def plain_key(key: Mapping[str, Any]) -> dict[str, Any]:
    """A key as JSON reads it back."""
    return {"format": FORMAT, **json.loads(json.dumps(key))}


def read_key(folder: Path) -> dict[str, Any] | None:
    """The key of the run that a folder's journal belongs to; None if there is none."""
    try:
        key = json.loads((folder / KEY_NAME).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        key = None
    return key if isinstance(key, dict) else {"journal.json": "damaged"}


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The differences between two keys as text: ``options.batch_size was 8, is 4``."""
    found: list[str] = []
    for name in [*new, *(name for name in old if name not in new)]:
        was, now = old.get(name, "absent"), new.get(name, "absent")
        if isinstance(was, dict) and isinstance(now, dict):
            found += differences(was, now, f"{prefix}{name}.")
        elif was != now:
            short = max(len(str(was)), len(str(now))) <= 40
            found.append(f"{prefix}{name} " + (f"was {was}, is {now}" if short else "differs"))
    return found


def _pack(arrays: Mapping[str, Any]) -> bytes:
    """Serialise arrays to the bytes of a file."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    plain = buffer.getbuffer()
    body: bytes = f"{len(plain):016x}\n".encode() + _CODEC.compress(plain, asbytes=True)
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _unpack(path: Path) -> dict[str, Any] | None:
    """The arrays of a file; None if it is missing or damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(data[65:]).hexdigest().encode() != data[:64]:
        return None
    try:
        plain = _CODEC.decompress(memoryview(data)[_HEAD:], int(data[65:81], 16), asbytes=True)
        with np.load(io.BytesIO(plain), allow_pickle=False) as found:
            return dict(found)
    except (ValueError, OSError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, pa.ArrowException):
        return None


class Finished(Protocol):
    """Interface of finished strips, e.g. a journal."""

    def __contains__(self, index: object) -> bool:
        """Whether a strip is finished."""

    def __getitem__(self, index: int) -> StripRecord:
        """The record of a finished strip."""

    def tail(self, index: int) -> FloatArray | None:
        """Sums that blending passes on below it, if they were kept."""

    def keep(self, record: StripRecord, tail: FloatArray) -> None:
        """Store a strip that was just finished."""


@dataclass(frozen=True)
class Work:
    """What to read and forward to get the records of some strips."""

    strips: range
    """Strips whose records are wanted."""
    forwarded: frozenset[int]
    """Rows of windows to forward: those of strips that are not finished, and those above that reach into them."""
    read: tuple[int, ...]
    """Rows of windows whose pixels are needed, ascending."""
    journal: Finished | None = None
    """Finished strips; strips that get finished are added."""

    def kept(self, strip: int) -> StripRecord | None:
        """The record of a strip that is finished."""
        return self.journal[strip] if self.journal is not None and strip in self.journal else None

    def finished(self, start: int, stop: int) -> Iterator[StripRecord]:
        """Records of strips [start, stop) that need no reading."""
        for strip in range(start, stop):
            record = self.kept(strip)
            assert record is not None, "the rows of a strip are missing"
            yield record

    def tail(self, strip: int) -> FloatArray | None:
        """Sums that blending passes on below a finished strip, if they were kept."""
        return None if self.journal is None else self.journal.tail(strip)

    def keep(self, record: StripRecord, tail: FloatArray) -> None:
        """Put a strip that was just finished into the journal.

        Raises:
            OutputError: It cannot be written.
        """
        if self.journal is not None:
            self.journal.keep(record, tail)


def plan_work(
    plan: WindowPlan,
    threshold: int,
    *,
    strips: range | None = None,
    journal: Journal | None = None,
    all_pixels: bool = False,
) -> Work:
    """Determine what to read and forward for a range of strips.

    Args:
        plan: The windows.
        threshold: Smallest probability value (1..254) that counts as changed. For strips that were finished with
            another one, pixels are read again for the components' colours, but nothing is forwarded.
        strips: Strips whose records are wanted; default: all.
        journal: Finished strips.
        all_pixels: Read the pixels of all strips, because a consumer needs them.
    """
    strips = range(plan.rows.count) if strips is None else strips
    if journal is None:
        forwarded = plan.rows.completing(strips)
        return Work(strips, forwarded, tuple(sorted(forwarded)))
    forwarded = frozenset(_forwarded(plan, [k for k in strips if k not in journal], journal))
    looked_at = {k for k in strips if all_pixels or (k in journal and journal.threshold(k) != threshold)}
    return Work(strips, forwarded, tuple(sorted(forwarded | looked_at)), journal)


def _forwarded(plan: WindowPlan, missing: list[int], journal: Journal) -> Iterable[int]:
    """Rows of windows of the missing strips, and above each the rows that reach into it and left no tail."""
    for strip in missing:
        for k in range(strip, max(-1, strip - plan.rows.reach - 1), -1):
            yield k
            if k == 0 or k - 1 in missing or journal.tail(k - 1) is not None:
                break
