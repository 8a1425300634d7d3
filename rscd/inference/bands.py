"""From rows of pixels to BandRecords: cut windows, forward them in batches, blend, quantise, label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from rscd.inference.blend import BandBlender, to_values
from rscd.inference.heap import give_back_memory
from rscd.inference.lanes import in_lanes
from rscd.inference.stream import ahead, drawn_from
from rscd.inference.work import Work, plan_work
from rscd.output.area import PixelAreas
from rscd.output.components import band_record, is_changed
from rscd.scene.reader import BandInput
from rscd.scene.validity import fill_invalid
from rscd.scene.windows import WindowPlan
from rscd.telemetry import Stopwatch
from rscd.types import BandRecord, BoolArray, ByteArray, FloatArray, Grid

IN_FLIGHT = 8
"""Windows that may be begun and not yet blended, and at least two batches: the device goes on meanwhile."""
Forward = Callable[[ByteArray, ByteArray], FloatArray]
"""(n, bands, h, w) of both dates -> probabilities (n, h, w), e.g. a Predictor."""


@dataclass
class Tally:
    """What inference did; filled in while it runs."""

    windows: int = 0
    """Windows forwarded."""
    skipped: int = 0
    """Windows without a valid pixel, not forwarded."""
    resumed: int = 0
    """Bands that an earlier run had finished."""


def interruptible(forward: Forward, interrupt: Callable[[], None]) -> Forward:
    """The network, with ``interrupt`` called before each batch; what it raises ends the run there."""

    def heeding(before: ByteArray, after: ByteArray) -> FloatArray:
        interrupt()
        return forward(before, after)

    return heeding


def band_records(
    inputs: Iterable[BandInput],
    plan: WindowPlan,
    forward: Forward,
    *,
    batch_size: int,
    lanes: int = 1,
    threshold: int,
    grid: Grid,
    areas: PixelAreas,
    work: Work | None = None,
    tally: Tally | None = None,
    watch: Stopwatch | None = None,
) -> Iterator[BandRecord]:
    """Turn the rows of each row of windows into the record of its band.

    A batch never spans two bands, so a band's bytes depend on its own inputs and the batch size alone. Bands that
    the journal holds come from there; the others are put there before they are yielded.

    Args:
        inputs: The rows, in order: at least those that ``work`` names.
        plan: The windows.
        forward: The network.
        batch_size: Windows a call of ``forward``, at most.
        lanes: Calls of ``forward`` side by side; results do not depend on it.
        threshold: Smallest probability value (1..254) that counts as changed.
        grid: The common grid.
        areas: Its pixels' areas.
        work: Which bands, and what of them is finished; default: all bands, and nothing.
        tally: Counts are added here.
        watch: Times ``wait``, for forwarded windows.
    """
    work, tally, watch = work or plan_work(plan, threshold), tally or Tally(), watch or Stopwatch()
    label = partial(band_record, threshold=threshold, grid_shape=grid.shape, pixel_areas=areas)
    blender, at, reached = BandBlender(plan), -1, work.bands.start
    batches = ahead(
        _forwarded(_cut(inputs, plan, work, batch_size, tally), forward, lanes, IN_FLIGHT // batch_size)
    )
    with closing(batches):
        for rows, windows, probability in watch.each("wait", batches):
            k = rows.index
            if k != at:
                yield from work.finished(reached, k)
                at, reached = k, max(reached, k + (k in work.bands))
                if k in work.forwarded and k - 1 not in work.forwarded:
                    blender = BandBlender(plan, work.tail(k - 1))
            for j, p in zip(windows, probability, strict=True):
                blender.add(k, j, p)
            if windows:
                continue
            values = _values(rows, plan, blender) if k in work.forwarded else None
            if k in work.bands:
                yield _record(rows, plan, values, work, blender.tail, label)
            give_back_memory()
    yield from work.finished(reached, work.bands.stop)


class _Batch(NamedTuple):
    """Windows of a row on their way; one without windows ends the row."""

    rows: BandInput
    windows: list[int]
    arrays: Sequence[Any]
    """Pixels of both dates, (n, bands, h, w) each; once forwarded, probabilities (h, w) of each window."""


def _cut(
    inputs: Iterable[BandInput], plan: WindowPlan, work: Work, batch_size: int, tally: Tally
) -> Iterator[_Batch]:
    """Cut the windows of the rows that are to be forwarded."""
    with drawn_from(inputs) as source:
        for rows in source:
            seen = _seen(rows, plan, tally) if rows.index in work.forwarded else []
            # What one date does not show is filled in both: streaks in one alone look like change (p beside a
            # collar then moved by 0.05 at the 95th percentile, now by 0.01).
            shown = rows.before_valid & rows.after_valid
            for i in range(0, len(seen), batch_size):
                batch = seen[i : i + batch_size]
                dates = [np.stack([_window(d, shown, plan, j) for j in batch]) for d in (rows.before, rows.after)]
                yield _Batch(rows, batch, dates)
            yield _Batch(rows, [], [])


def _seen(rows: BandInput, plan: WindowPlan, tally: Tally) -> list[int]:
    """Windows of a row that have a valid pixel; the others are not forwarded."""
    valid = _valid(rows)
    seen = [j for j in range(plan.cols.count) if _columns(valid, plan, j).any()]
    tally.windows += len(seen)
    tally.skipped += plan.cols.count - len(seen)
    return seen


def _forwarded(batches: Iterator[_Batch], forward: Forward, lanes: int, most: int) -> Iterator[_Batch]:
    """Forward batches, while the next is cut and the one before is blended: the device is not to wait."""

    def through(batch: _Batch) -> _Batch:
        return batch._replace(arrays=list(forward(*batch.arrays))) if batch.windows else batch

    with closing(ahead(batches)) as coming, closing(in_lanes(through, coming, lanes, most)) as done:
        yield from done


def _record(
    rows: BandInput,
    plan: WindowPlan,
    values: ByteArray | None,
    work: Work,
    tail: FloatArray,
    label: partial[BandRecord],
) -> BandRecord:
    """The record of a band: the journal's, that with another threshold, or a new one, which the journal keeps."""
    kept = work.kept(rows.index)
    if kept is not None and kept.threshold == label.keywords["threshold"]:
        return kept
    start, stop = plan.rows.band(rows.index)
    if kept is not None:
        values = kept.probability
    assert values is not None, "a band that is not finished was not forwarded"
    changed = is_changed(values, label.keywords["threshold"])
    before, after = (date[:, start - rows.row : stop - rows.row][:, changed] for date in (rows.before, rows.after))
    if kept is not None:
        return label(rows.index, start, values, before=before, after=after, read_errors=kept.read_errors)
    record = label(rows.index, start, values, before=before, after=after, read_errors=rows.read_errors)
    work.keep(record, tail)
    return record


def _valid(rows: BandInput) -> BoolArray:
    """What both dates show, and is wanted."""
    shown = rows.before_valid & rows.after_valid
    return shown if rows.wanted is None else shown & rows.wanted


def _values(rows: BandInput, plan: WindowPlan, blender: BandBlender) -> ByteArray:
    """The values of a band whose windows are all blended in."""
    start, stop = plan.rows.band(rows.index)
    return to_values(blender.finish(rows.index), _valid(rows)[start - rows.row : stop - rows.row])


def _columns(rows: BoolArray, plan: WindowPlan, j: int) -> BoolArray:
    start = plan.cols.start(j)
    return rows[..., start : start + plan.cols.window]


def _window(pixels: ByteArray, valid: BoolArray, plan: WindowPlan, j: int) -> ByteArray:
    """Cut window j (bands, window, window), fill what is not valid, mirror a scene that is smaller."""
    start = plan.cols.start(j)
    cut: ByteArray = fill_invalid(pixels[:, :, start : start + plan.cols.window], _columns(valid, plan, j))
    short = plan.rows.window - cut.shape[1], plan.cols.window - cut.shape[2]
    if short == (0, 0):
        return cut
    return np.pad(cut, ((0, 0), (0, short[0]), (0, short[1])), mode="symmetric")
