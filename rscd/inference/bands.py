"""From rows of pixels to BandRecords: cut windows, forward them in batches, blend, quantise, label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from rscd.inference.blend import BandBlender, to_values
from rscd.inference.stream import drawn_from, give_back_memory
from rscd.inference.work import Work, plan_work
from rscd.output.area import PixelAreas
from rscd.output.components import band_record
from rscd.scene.reader import BandInput
from rscd.scene.validity import fill_invalid
from rscd.scene.windows import WindowPlan
from rscd.types import BandRecord, BoolArray, ByteArray, FloatArray, Grid

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
    threshold: int,
    grid: Grid,
    areas: PixelAreas,
    work: Work | None = None,
    tally: Tally | None = None,
) -> Iterator[BandRecord]:
    """Turn the rows of each row of windows into the record of its band.

    A batch never spans two bands, so a band's bytes depend on its own inputs and the batch size alone. Bands that
    the journal holds come from there; the others are put there before they are yielded.

    Args:
        inputs: The rows, in order: at least those that ``work`` names.
        plan: The windows.
        forward: The network.
        batch_size: Windows a call of ``forward``, at most.
        threshold: Smallest probability value (1..254) that counts as changed.
        grid: The common grid.
        areas: Its pixels' areas.
        work: Which bands, and what of them is finished; default: all bands, and nothing.
        tally: Counts are added here.
    """
    work, tally = work or plan_work(plan, threshold), tally or Tally()
    label = partial(band_record, threshold=threshold, grid_shape=grid.shape, pixel_areas=areas)
    blender, reached = BandBlender(plan), work.bands.start
    with drawn_from(inputs) as source:
        for rows in source:
            k = rows.index
            yield from work.finished(reached, k)
            reached = max(reached, k + (k in work.bands))
            give_back_memory()
            if k in work.forwarded:
                if k - 1 not in work.forwarded:
                    blender = BandBlender(plan, work.tail(k - 1))
                values = _forward_row(rows, plan, forward, blender, batch_size, tally)
            if k not in work.bands:
                continue
            record = work.kept(k)
            if record is None or record.threshold != threshold:
                start, stop = plan.rows.band(k)
                before, after = (date[:, start - rows.row : stop - rows.row] for date in (rows.before, rows.after))
                if record is None:
                    record = label(k, start, values, before=before, after=after, read_errors=rows.read_errors)
                    work.keep(record, blender.tail)
                else:
                    errors = record.read_errors
                    record = label(k, start, record.probability, before=before, after=after, read_errors=errors)
            yield record
    yield from work.finished(reached, work.bands.stop)


def _forward_row(
    rows: BandInput, plan: WindowPlan, forward: Forward, blender: BandBlender, batch_size: int, tally: Tally
) -> ByteArray:
    """Forward a row of windows and blend it in; the values of its band."""
    # What one date does not show is filled in both: streaks in one alone look like change (p beside a collar
    # then moved by 0.05 at the 95th percentile, now by 0.01).
    shown = rows.before_valid & rows.after_valid
    valid = shown if rows.wanted is None else shown & rows.wanted
    seen = [j for j in range(plan.cols.count) if _columns(valid, plan, j).any()]
    tally.windows += len(seen)
    tally.skipped += plan.cols.count - len(seen)
    for i in range(0, len(seen), batch_size):
        batch = seen[i : i + batch_size]
        before = np.stack([_window(rows.before, shown, plan, j) for j in batch])
        after = np.stack([_window(rows.after, shown, plan, j) for j in batch])
        for j, probability in zip(batch, forward(before, after), strict=True):
            blender.add(rows.index, j, probability)
    give_back_memory()
    start, stop = plan.rows.band(rows.index)
    return to_values(blender.finish(rows.index), valid[start - rows.row : stop - rows.row])


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
