"""What a run has to do: which rows of windows are read, which are forwarded, given the bands that are finished."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rscd.scene.windows import WindowPlan
from rscd.types import BandRecord, FloatArray

if TYPE_CHECKING:
    from rscd.inference.journal import Journal


class Finished(Protocol):
    """Bands that are finished, as a journal has them."""

    def __contains__(self, index: object) -> bool:
        """Whether a band is."""

    def __getitem__(self, index: int) -> BandRecord:
        """The record of one that is."""

    def tail(self, index: int) -> FloatArray | None:
        """What blending left below it, if that was kept."""

    def keep(self, record: BandRecord, tail: FloatArray) -> None:
        """Take one more."""


@dataclass(frozen=True)
class Work:
    """The way to the records of some bands."""

    bands: range
    """Bands whose records are wanted."""
    forwarded: frozenset[int]
    """Rows of windows to forward: those of bands that are not finished, and those above that reach into them."""
    read: tuple[int, ...]
    """Rows of windows whose pixels are needed, ascending."""
    journal: Finished | None = None
    """Holds finished bands, and takes others as they become so."""

    def kept(self, band: int) -> BandRecord | None:
        """The record of a band that is finished."""
        return self.journal[band] if self.journal is not None and band in self.journal else None

    def finished(self, start: int, stop: int) -> Iterator[BandRecord]:
        """Records of bands [start, stop), of which nothing is read."""
        for band in range(start, stop):
            record = self.kept(band)
            assert record is not None, "the rows of a band are missing"
            yield record

    def tail(self, band: int) -> FloatArray | None:
        """What blending left below a finished band, if it was kept."""
        return None if self.journal is None else self.journal.tail(band)

    def keep(self, record: BandRecord, tail: FloatArray) -> None:
        """Put a band just finished into the journal.

        Raises:
            OutputError: It cannot be written.
        """
        if self.journal is not None:
            self.journal.keep(record, tail)


def plan_work(
    plan: WindowPlan,
    threshold: int,
    *,
    bands: range | None = None,
    journal: Journal | None = None,
    all_pixels: bool = False,
) -> Work:
    """Find out what to read and forward for a range of bands.

    Args:
        plan: The windows.
        threshold: Smallest probability value (1..254) that counts as changed. Of finished bands with another one,
            pixels are read again for the components' colours; nothing is forwarded.
        bands: Bands whose records are wanted; default: all.
        journal: Finished bands.
        all_pixels: Somebody looks at the pixels of all bands.
    """
    bands = range(plan.rows.count) if bands is None else bands
    if journal is None:
        forwarded = plan.rows.completing(bands)
        return Work(bands, forwarded, tuple(sorted(forwarded)))
    forwarded = frozenset(_forwarded(plan, [k for k in bands if k not in journal], journal))
    looked_at = {k for k in bands if all_pixels or (k in journal and journal.threshold(k) != threshold)}
    return Work(bands, forwarded, tuple(sorted(forwarded | looked_at)), journal)


def _forwarded(plan: WindowPlan, missing: list[int], journal: Journal) -> Iterable[int]:
    """The missing bands' rows of windows, and above each those that reach into it and left no tail."""
    for band in missing:
        for k in range(band, max(-1, band - plan.rows.reach - 1), -1):
            yield k
            if k == 0 or k - 1 in missing or journal.tail(k - 1) is not None:
                break
