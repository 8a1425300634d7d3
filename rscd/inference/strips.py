"""From windows of pixels to strip records: forward in batches, blend, quantise, label.

Windows come in reading order. Blending a window completes its cell: the rows of its strip, and the columns up to
the start of the next window. Its sums to the right of the cell are carried to the next window, those below are
kept in the tail. So only a window and the tail are accumulated, never the scene or a whole strip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from rscd.core.pixel_area import PixelAreas
from rscd.core.resources import Stopwatch, return_freed_memory
from rscd.core.types import (
    NOT_OBSERVABLE,
    P_SCALE,
    BoolArray,
    ByteArray,
    FloatArray,
    Grid,
    ImageArray,
    IntArray,
    Progress,
    StripRecord,
)
from rscd.inference.components import is_changed, strip_record
from rscd.inference.journal import Work, plan_work
from rscd.inference.predictor import ForwardPass
from rscd.inference.workers import closing_source, in_workers, prefetched
from rscd.scene.raster import fill_invalid
from rscd.scene.window_stream import WindowInput
from rscd.scene.windows import WindowPlan


class Blender:
    """Weighted sum of windows, in reading order.

    Args:
        plan: The windows.
        tail: Tail of an earlier blender after the row of windows above the first one.
        maps: Number of maps per window, as an axis before its rows; None: one, without this axis.
    """

    def __init__(self, plan: WindowPlan, tail: FloatArray | None = None, *, maps: int | None = None) -> None:
        self._plan, self._maps = plan, () if maps is None else (maps,)
        self.tail: FloatArray = np.zeros((*self._maps, plan.rows.overlap, plan.cols.size), np.float32)
        """Sums that finished rows of windows pass to the next: (..., overlap, columns)."""
        if tail is not None:
            self.tail[:] = tail
        self._carry: FloatArray = np.zeros((*self._maps, 0, 0), np.float32)

    def add(self, k: int, j: int, probability: FloatArray | None) -> FloatArray:
        """Add window (row k, column j); returns its completed cell: probabilities (..., h, w).

        Args:
            k: Row of windows.
            j: Window of the row; from 0, without gaps.
            probability: Shape (..., window, window), in 0..1; None if the window has no valid pixel.
        """
        rows, cols = self._plan.rows, self._plan.cols
        (top, bottom), (left, right) = rows.support(k), cols.support(j)
        (_, strip_stop), (start, stop) = rows.strip(k), cols.strip(j)
        height, width = bottom - top, right - left
        sums = np.zeros((*self._maps, height, width), np.float32)
        carried = 0
        if j > 0:
            carried = self._carry.shape[-1]
            sums[..., :carried] = self._carry
        tail = self.tail[..., :height, :]
        sums[..., : tail.shape[-2], carried:] = tail[..., left + carried : right]
        if probability is not None:
            down, across = top - rows.start(k), left - cols.start(j)
            part = probability[..., down : down + height, across : across + width]
            sums += part * (rows.weights[k][:, None] * cols.weights[j][None, :])
        below = sums[..., strip_stop - top :, : stop - start]
        self.tail[..., : below.shape[-2], start:stop] = below
        self.tail[..., below.shape[-2] :, start:stop] = 0
        self._carry = sums[..., stop - start :].copy()
        return sums[..., : strip_stop - top, : stop - start]


def to_values(probability: FloatArray, valid: BoolArray) -> ByteArray:
    """Quantise probabilities (..., h, w) in 0..1 to values 0..254; 255 where ``valid`` (h, w) is False."""
    scaled = np.clip(probability, 0, 1)
    scaled *= P_SCALE
    values = np.rint(scaled, out=scaled).astype(np.uint8)
    values[..., ~valid] = NOT_OBSERVABLE
    return values


IN_FLIGHT = 8
"""Maximum number of windows in progress, at least two batches: so the device does not wait.

In addition one batch waits for blending, and one is being blended.
"""
GIVE_BACK_PX = 7_000_000
"""Pixels of strips after which freed memory is returned to the system: the next forward pass must allocate
again."""


@dataclass
class Tally:
    """Counts of inference, updated while it runs."""

    windows: int = 0
    """Windows forwarded."""
    skipped: int = 0
    """Windows without a valid pixel, not forwarded."""
    resumed: int = 0
    """Strips that an earlier run had finished."""


def strip_records(
    inputs: Iterable[WindowInput],
    plan: WindowPlan,
    forward: ForwardPass,
    *,
    threshold: int,
    areas: PixelAreas,
    work: Work | None = None,
    tally: Tally | None = None,
    watch: Stopwatch | None = None,
) -> Iterator[StripRecord]:
    """Turn each row of windows into the record of its strip.

    A batch never spans two strips, so a strip's bytes depend only on its own inputs and the batch size. Finished
    strips come from the journal; new ones are added to it before they are yielded.

    Args:
        inputs: The windows, in reading order: whole rows, at least those that ``work`` needs.
        plan: The windows.
        forward: The network for windows of the scene.
        threshold: Smallest probability value (1..254) that counts as changed.
        areas: The common grid, and its pixels' areas.
        work: Strips to make, and finished ones; default: all strips, none finished.
        tally: Counts are added here.
        watch: Times ``wait``, for forwarded windows.
    """
    work, tally, watch = work or plan_work(plan, threshold), tally or Tally(), watch or Stopwatch()
    label = partial(strip_record, threshold=threshold, areas=areas)
    maps = 3 if forward.presence else None
    blender, reached, held = Blender(plan, maps=maps), work.strips.start, 0
    batches = prefetched(_forwarded(_batches(inputs, plan, work, forward.batch_size, tally), forward))
    with closing(batches):
        for window, probability in _one_by_one(watch.each("wait", batches)):
            k = window.k
            if window.j == 0:
                yield from work.finished(reached, k)
                reached = max(reached, k + (k in work.strips))
                if k in work.forwarded and k - 1 not in work.forwarded:
                    blender = Blender(plan, work.tail(k - 1), maps=maps)
                strip = _Strip(plan, k, work, threshold) if k in work.strips else None
            sums = blender.add(k, window.j, probability) if k in work.forwarded else None
            if strip is not None:
                strip.add(window, sums)
            if window.j == plan.cols.count - 1:
                if strip is not None:
                    yield strip.record(label, blender.tail)
                held += plan.rows.stride * areas.grid.width
                if held >= GIVE_BACK_PX:
                    return_freed_memory()
                    held = 0
    yield from work.finished(reached, work.strips.stop)


def reported(records: Iterable[StripRecord], progress: Progress, grid: Grid) -> Iterator[StripRecord]:
    """The records; ``progress`` is called at the start, and after the consumer has processed each record.

    Args:
        records: All strips.
        progress: Called with pixels done and in total.
        grid: The common grid.
    """
    total = grid.height * grid.width
    progress(0, total)
    with closing_source(records) as source:
        for record in source:
            yield record
            progress((record.row + record.height) * grid.width, total)


class _Batch(NamedTuple):
    """Consecutive windows of a row, in progress."""

    windows: list[WindowInput]
    """All windows, each with its cell."""
    seen: list[int]
    """Indices of the windows that are forwarded: those with a valid pixel."""
    arrays: Sequence[Any]
    """For these: pixels of both dates, (n, bands, h, w) each; after forwarding, probabilities, (..., h, w) each."""


def _batches(
    inputs: Iterable[WindowInput], plan: WindowPlan, work: Work, batch_size: int, tally: Tally
) -> Iterator[_Batch]:
    """Collect windows until a batch is full or the row ends; in rows that are not forwarded, one by one."""
    windows: list[WindowInput] = []
    seen: dict[int, WindowInput] = {}
    with closing_source(inputs) as source:
        for window in source:
            forwarded = window.k in work.forwarded
            if forwarded and window.valid.any():
                seen[len(windows)] = window
                tally.windows += 1
            elif forwarded:
                tally.skipped += 1
            windows.append(window.within_cell())
            if not forwarded or len(seen) == batch_size or window.j == plan.cols.count - 1:
                yield _Batch(windows, [*seen], _pixels([*seen.values()], plan))
                windows, seen = [], {}


def _pixels(windows: list[WindowInput], plan: WindowPlan) -> list[ByteArray]:
    """Input of the network: both dates, (n, bands, window, window) each."""
    if not windows:
        return []
    # Pixels missing in one date are filled in both: streaks in only one date look like change (next to a nodata
    # border, p changed by 0.05 at the 95th percentile, now by 0.01).
    dates = [[_filled(date, w.shown, plan) for date in (w.before, w.after)] for w in windows]
    return [np.stack(some) for some in zip(*dates, strict=True)]


def _filled(pixels: ByteArray, shown: BoolArray, plan: WindowPlan) -> ByteArray:
    """Fill pixels that are not shown, and mirror a scene that is smaller than a window."""
    whole: ByteArray = fill_invalid(pixels, shown)
    short = plan.rows.window - whole.shape[1], plan.cols.window - whole.shape[2]
    if short == (0, 0):
        return whole
    return np.pad(whole, ((0, 0), (0, short[0]), (0, short[1])), mode="symmetric")


def _forwarded(batches: Iterator[_Batch], forward: ForwardPass) -> Iterator[_Batch]:
    """Forward batches while the next are collected and the previous ones blended, so the device does not wait."""

    def through(batch: _Batch) -> _Batch:
        return batch._replace(arrays=list(forward.call(*batch.arrays))) if batch.seen else batch

    most = IN_FLIGHT // forward.batch_size
    with (
        closing(prefetched(batches)) as coming,
        closing(in_workers(through, coming, forward.workers, most)) as done,
    ):
        yield from done


def _one_by_one(batches: Iterable[_Batch]) -> Iterator[tuple[WindowInput, FloatArray | None]]:
    """Windows, with probabilities for those that were forwarded."""
    for batch in batches:
        found = dict(zip(batch.seen, batch.arrays, strict=True))
        for i in range(len(batch.windows)):
            yield batch.windows.pop(0), found.get(i)  # processed windows are freed


class _Strip:
    """A strip assembled from its cells: its values, and pixels of both dates where it changed.

    Args:
        plan: The windows.
        k: Index of the row of windows.
        work: May hold the strip's record, finished by an earlier run.
        threshold: Smallest probability value that counts as changed.
    """

    def __init__(self, plan: WindowPlan, k: int, work: Work, threshold: int) -> None:
        self._k, self._work, self._threshold = k, work, threshold
        self._row, stop = plan.rows.strip(k)
        kept = work.kept(k)
        self._kept, self._finished = kept, kept is not None and kept.threshold == threshold
        shape = stop - self._row, plan.cols.size
        self._values = np.empty(shape, np.uint8) if kept is None else kept.probability
        self._presence = None if kept is None else kept.presence
        self._changed: list[tuple[IntArray, ImageArray, ImageArray]] = []
        self._read_errors: list[str] = []

    def add(self, window: WindowInput, sums: FloatArray | None) -> None:
        """Add the next cell.

        Args:
            window: The window that completed it, cut to its cell.
            sums: Its probabilities (h, w), or (3, h, w) with presence; None if the strip is not forwarded.
        """
        self._read_errors += window.read_errors
        if self._finished:
            return
        left = window.cell.col
        cell = self._values[:, left : left + window.cell.width]
        if self._kept is None:
            assert sums is not None, "a strip that is not finished was not forwarded"
            found = to_values(sums, window.valid)
            if found.ndim == 3:
                if self._presence is None:
                    self._presence = np.empty((2, *self._values.shape), np.uint8)
                self._presence[:, :, left : left + window.cell.width] = found[1:]
            cell[:] = found if found.ndim == 2 else found[0]
        changed = np.flatnonzero(is_changed(cell, self._threshold))
        if not self._changed or len(changed):  # the first one defines the number of spectral bands
            rows, cols = np.divmod(changed, window.cell.width)
            place = (rows * self._values.shape[1] + cols + left).astype(np.int32)
            before, after = (date[:, rows, cols] for date in window.numbers)
            self._changed.append((place, before, after))

    def record(self, label: Callable[..., StripRecord], tail: FloatArray) -> StripRecord:
        """The strip's record once all cells are added; a new one goes into the journal, with blending's tail."""
        kept = self._kept
        if kept is not None and self._finished:
            return kept
        errors = tuple(dict.fromkeys(self._read_errors)) if kept is None else kept.read_errors
        how = {"colours": self._colours(), "presence": self._presence, "read_errors": errors}
        record = label(self._k, self._row, self._values, **how)
        if kept is None:
            self._work.keep(record, tail)
        return record

    def _colours(self) -> tuple[ImageArray, ImageArray]:
        """Original values of both dates at the changed pixels, in reading order, (bands, pixels) each."""
        place, before, after = (np.concatenate(part, axis=-1) for part in zip(*self._changed, strict=True))
        self._changed.clear()
        order = np.argsort(place)
        return before[:, order], after[:, order]
