"""From rows of pixels to BandRecords: cut windows, forward them in batches, blend, quantise, label."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from rscd.inference.blend import BandBlender, to_values
from rscd.inference.stream import give_back_memory
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


def band_records(
    inputs: Iterable[BandInput],
    plan: WindowPlan,
    forward: Forward,
    *,
    batch_size: int,
    threshold: int,
    grid: Grid,
    areas: PixelAreas,
    tally: Tally | None = None,
) -> Iterator[BandRecord]:
    """Turn the rows of each row of windows into the record of its band.

    A batch never spans two bands, so a band's bytes depend on its own inputs and the batch size alone.

    Args:
        inputs: The rows, in order.
        plan: The windows.
        forward: The network.
        batch_size: Windows a call of ``forward``, at most.
        threshold: Smallest probability value (1..254) that counts as changed.
        grid: The common grid.
        areas: Its pixels' areas.
        tally: Counts are added here.
    """
    tally = tally or Tally()
    blender = BandBlender(plan)
    for rows in inputs:
        give_back_memory()
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
        part = np.s_[start - rows.row : stop - rows.row]
        yield band_record(
            rows.index,
            start,
            to_values(blender.finish(rows.index), valid[part]),
            threshold=threshold,
            grid_shape=grid.shape,
            pixel_areas=areas,
            before=rows.before[:, part],
            after=rows.after[:, part],
            read_errors=rows.read_errors,
        )


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
