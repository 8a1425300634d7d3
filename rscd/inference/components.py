"""Connected components of changed pixels: within a strip, and across strips.

Two changed pixels are connected if they share an edge (4-connectivity). Across the seam between two strips this
only compares labels in the same column, not geometry: pixels that touch at a corner are not connected.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from typing import TypeVar, cast

import numpy as np

from rscd.core.pixel_area import PixelAreas
from rscd.core.runs import Overlaps, connected, labelled, overlaps, pixels_of, runs_of, stacked
from rscd.core.types import (
    NOT_OBSERVABLE,
    P_SCALE,
    SLAB,
    BoolArray,
    ByteArray,
    ComponentTable,
    DoubleArray,
    ImageArray,
    IntArray,
    LongArray,
    Runs,
    StripRecord,
)

Column = TypeVar("Column", ByteArray, LongArray, DoubleArray)

_VALUES = 256
_DENSE = 1 << 18
_SUMS = ("before_sum", "after_sum", "presence_sum")
_ADDED = ("pixels", "area_m2", "p_sum", *_SUMS, "outline_edges", "hidden_edges")
_PER_ROW = (*_ADDED, "p_max", "bbox")


def record_digest(index: int, row: int, probability: ByteArray) -> str:
    """Hex sha256 over a strip's index, first row, shape and probability values."""
    height, width = probability.shape
    digest = hashlib.sha256(f"rscd band {index} row {row} shape {height}x{width}\n".encode())
    digest.update(np.ascontiguousarray(probability).data)
    return digest.hexdigest()


def threshold_value(threshold: float) -> int:
    """The smallest probability value (1..254) that represents at least this probability (above 0)."""
    return math.ceil(threshold * P_SCALE - 1e-9)


def is_changed(probability: ByteArray, threshold: int) -> BoolArray:
    """Pixels that count as changed: observable, and at or above ``threshold`` (0..254)."""
    return np.asarray((probability >= threshold) & (probability != NOT_OBSERVABLE))


def changed_runs(probability: ByteArray, threshold: int) -> Runs:
    """The changed pixels of a strip, without labels; some rows at a time, to keep temporary masks small."""
    starts = range(0, len(probability), SLAB)
    return stacked((row, runs_of(is_changed(probability[row : row + SLAB], threshold))) for row in starts)


def label_changes(probability: ByteArray, threshold: int) -> Runs:
    """The changed pixels of a strip, with the labels of their components."""
    runs = changed_runs(probability, threshold)
    return labelled(runs, overlaps(runs))


def strip_record(
    index: int,
    row: int,
    probability: ByteArray,
    *,
    threshold: int,
    areas: PixelAreas,
    colours: tuple[ImageArray, ImageArray] | None = None,
    presence: ByteArray | None = None,
    read_errors: Sequence[str] = (),
) -> StripRecord:
    """Label a strip and measure its components.

    The table counts the pixel edges inside the strip and those on the border of the grid. Edges on the seam to a
    neighbouring strip need the neighbour's row; ``ComponentJoiner`` adds them when it has both strips.

    Args:
        index: Index of the strip, counted from the top.
        row: The strip's first row in the grid.
        probability: Probability values, shape (height, width), 255 = not observable.
        threshold: Smallest probability value (0..254) that counts as changed.
        areas: The grid, and its pixels' geodesic areas.
        colours: Values of the before and the after image at the changed pixels, in reading order, shape (bands,
            pixels) each, for the table's sums; None without images.
        presence: Presence values before and after of all pixels, shape (2, height, width); None without a presence
            head.
        read_errors: Messages of input blocks that could not be decoded.
    """
    height = len(probability)
    runs = changed_runs(probability, threshold)
    over = overlaps(runs)
    runs = labelled(runs, over)
    there = None if presence is None else presence[:, *pixels_of(runs)]
    table = _measured(row, probability, runs, areas, (*(colours or (None, None)), there))
    seams = row > 0, row + height < areas.grid.height
    table = replace(table, outline_edges=_outline_edges(runs, over, len(table), seams=seams, height=height))
    digest = record_digest(index, row, probability)
    return StripRecord(index, row, probability, threshold, runs, table, tuple(read_errors), digest, presence)


def _measured(
    row: int,
    probability: ByteArray,
    runs: Runs,
    pixel_areas: PixelAreas,
    pixels: tuple[ImageArray | None, ImageArray | None, ImageArray | None],
) -> ComponentTable:
    """The component table of a strip without ``outline_edges``; some rows at a time, to save memory."""
    tables: list[ComponentTable] = []
    groups: list[LongArray] = []
    done = 0
    first = np.searchsorted(runs.row, np.arange(0, len(probability), SLAB))
    slabs = [(start, stop) for start, stop in pairwise([*first, len(runs.row)]) if start < stop]
    for start, stop in slabs or [(0, 0)]:
        some = Runs(*(part[start:stop] for part in runs))
        count = int((some.stop - some.start).sum())
        part = slice(done, done + count)
        sums = [None if image is None else image[:, part] for image in pixels]
        labels, of_run = np.unique(some.label, return_inverse=True)
        tables.append(_table(row, probability, some, of_run, len(labels), pixel_areas, sums))
        groups.append(labels.astype(np.int64) - 1)
        done += count
    return merge(reduce(concatenate, tables), np.concatenate(groups))


def _table(
    row: int,
    probability: ByteArray,
    runs: Runs,
    of_run: LongArray,
    n: int,
    pixel_areas: PixelAreas,
    images: Sequence[ImageArray | None],
) -> ComponentTable:
    """Measure n components; each run belongs to one of them; ``images`` are the inputs of ``_SUMS``."""
    of = np.repeat(of_run, runs.stop - runs.start)
    rows, cols = pixels_of(runs)
    values = probability[rows, cols]
    start, value, count = _histogram(of * _VALUES + values, None, n)
    top, left, right = (part.astype(np.int64) for part in (runs.row, runs.start, runs.stop))
    box = (np.minimum, top + row), (np.minimum, left), (np.maximum, top + row + 1), (np.maximum, right)
    return ComponentTable(
        pixels=np.bincount(of, minlength=n),
        area_m2=np.bincount(of, weights=pixel_areas.at(rows + row, cols), minlength=n).astype(np.float64),
        p_sum=np.bincount(of, weights=values, minlength=n).astype(np.int64),
        p_max=_reduce(np.maximum, of, values, n),
        hist_start=start,
        hist_value=value,
        hist_count=count,
        **{name: _image_sums(image, of, n) for name, image in zip(_SUMS, images, strict=True)},
        bbox=np.column_stack([_reduce(which, of_run, side, n) for which, side in box]),
        outline_edges=np.zeros(n, dtype=np.int64),
        hidden_edges=_hidden_edges(probability, (rows, cols), of, n),
    )


@dataclass(frozen=True)
class Joined:
    """Result of adding a strip: groups joined from open components and the strip's own."""

    table: ComponentTable
    """One row per group."""
    is_open: BoolArray
    """Groups on the strip's last row, which may continue in the next one; the others are complete."""
    group_of_open: LongArray
    """Group of each component that was open before this strip."""
    group_of_label: LongArray
    """Group of each label of the strip; entry ``i`` is for label ``i + 1``."""
    row_above: LongArray
    """Group of each pixel of the row above the strip, -1 if unchanged or above the grid."""

    def closed(self) -> ComponentTable:
        """The table of the complete components."""
        return take(self.table, np.flatnonzero(~self.is_open))


class ComponentJoiner:
    """Joins the components of successive strips; holds one row and the table of the open components.

    Groups that stay open are numbered in the order of ``Joined.is_open`` for the next call.
    """

    def __init__(self) -> None:
        self._open: ComponentTable | None = None
        self._last_ids = np.zeros(0, dtype=np.int64)
        self._last_probability = np.zeros(0, dtype=np.uint8)
        self._next_row = 0

    def add(self, record: StripRecord) -> Joined:
        """Add the next strip; records must come in order and without gaps."""
        assert record.row == self._next_row, "strips must be joined in order"
        if self._open is None:
            self._open = take(record.table, np.zeros(0, dtype=np.int64))
            self._last_ids = np.full(record.width, -1, dtype=np.int64)
            self._last_probability = np.zeros(record.width, dtype=np.uint8)
        m = len(self._open)
        ends = record.top_labels, record.bottom_labels
        top, bottom = (_chain(np.arange(m, m + len(record.table)), labels - 1) for labels in ends)
        nodes = concatenate(self._open, record.table)
        if record.row > 0:
            nodes = self._with_seam_edges(nodes, top, record.probability[0])
        group = self._groups(top, len(nodes))
        table = merge(nodes, group)
        last = _chain(group, bottom)
        is_open = np.zeros(len(table), dtype=np.bool_)
        is_open[last[last >= 0]] = True
        joined = Joined(table, is_open, group[:m], group[m:], _chain(group, self._last_ids))
        self._open = take(table, np.flatnonzero(is_open))
        self._last_ids = _chain(np.cumsum(is_open) - 1, last)
        self._last_probability = record.probability[-1].copy()
        self._next_row = record.row + record.height
        return joined

    def finish(self) -> Joined:
        """Close the components that are still open after the grid's last row."""
        assert self._open is not None, "no strip was joined"
        n = len(self._open)
        nothing = np.zeros(0, dtype=np.int64)
        return Joined(self._open, np.zeros(n, dtype=np.bool_), np.arange(n), nothing, self._last_ids)

    def _groups(self, top: LongArray, nodes: int) -> LongArray:
        """Group of each node: nodes are joined if they meet in a column of the seam."""
        meet = (self._last_ids >= 0) & (top >= 0)
        return connected(nodes, self._last_ids[meet], top[meet])

    def _with_seam_edges(self, nodes: ComponentTable, top: LongArray, top_values: ByteArray) -> ComponentTable:
        """Count the seam's edges that face an unchanged pixel, and those that face a hidden pixel."""
        outline, hidden = nodes.outline_edges.copy(), nodes.hidden_edges.copy()
        down, up = (self._last_ids, top, top_values), (top, self._last_ids, self._last_probability)
        for mine, faced, value in (down, up):
            edge = (mine >= 0) & (faced < 0)
            outline += np.bincount(mine[edge], minlength=len(nodes))
            hidden += np.bincount(mine[edge & (value == NOT_OBSERVABLE)], minlength=len(nodes))
        return replace(nodes, outline_edges=outline, hidden_edges=hidden)


def take(table: ComponentTable, rows: LongArray) -> ComponentTable:
    """The given rows of a table, in that order."""
    sizes = np.diff(table.hist_start)[rows]
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    entries = np.arange(start[-1]) + np.repeat(table.hist_start[rows] - start[:-1], sizes)
    return ComponentTable(
        **{name: getattr(table, name)[rows] for name in _PER_ROW},
        hist_start=start,
        hist_value=table.hist_value[entries],
        hist_count=table.hist_count[entries],
    )


def concatenate(one: ComponentTable, other: ComponentTable) -> ComponentTable:
    """The rows of both tables, one after the other."""
    return ComponentTable(
        **{name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in _PER_ROW},
        hist_start=np.concatenate([one.hist_start, other.hist_start[1:] + one.hist_start[-1]]),
        hist_value=np.concatenate([one.hist_value, other.hist_value]),
        hist_count=np.concatenate([one.hist_count, other.hist_count]),
    )


def merge(table: ComponentTable, group: LongArray) -> ComponentTable:
    """Merge the rows with equal ``group`` (0..k-1, none missing) into one row each.

    Args:
        table: n rows.
        group: Group of each row, shape (n,).
    """
    k = int(group.max()) + 1 if len(group) else 0
    if k == len(table) and np.array_equal(group, np.arange(k)):
        return table
    of_entry = np.repeat(group, np.diff(table.hist_start))
    start, value, count = _histogram(of_entry * _VALUES + table.hist_value, table.hist_count, k)
    low, high = table.bbox[:, :2], table.bbox[:, 2:]
    return ComponentTable(
        **{name: _reduce(np.add, group, getattr(table, name), k) for name in _ADDED},
        p_max=_reduce(np.maximum, group, table.p_max, k),
        bbox=np.hstack([_reduce(np.minimum, group, low, k), _reduce(np.maximum, group, high, k)]),
        hist_start=start,
        hist_value=value,
        hist_count=count,
    )


def _chain(then: LongArray, first: LongArray | IntArray) -> LongArray:
    """``then[first]``, with -1 for "none" passed through."""
    out = np.full(len(first), -1, dtype=np.int64)
    some = first >= 0
    out[some] = then[first[some]]
    return out


def _histogram(key: LongArray, weight: LongArray | None, n: int) -> tuple[LongArray, ByteArray, LongArray]:
    """Sparse histograms of keys ``component * 256 + value``, weights 1 if None: start (n + 1), values, counts."""
    if n * _VALUES <= max(4 * len(key), _DENSE):  # a dense table is faster than sorting
        dense = np.bincount(key, weights=weight, minlength=n * _VALUES)
        found = np.flatnonzero(dense)
        count = dense[found].astype(np.int64)
    else:
        found, place = np.unique(key, return_inverse=True)
        count = np.bincount(place, weights=weight, minlength=len(found)).astype(np.int64)
    start = np.searchsorted(found, np.arange(n + 1) * _VALUES).astype(np.int64)
    return start, (found % _VALUES).astype(np.uint8), count


def _outline_edges(runs: Runs, over: Overlaps, n: int, *, seams: tuple[bool, bool], height: int) -> LongArray:
    """Edges to unchanged pixels within the strip, and on the border of the grid, per component.

    Args:
        runs: The changed pixels.
        over: Runs that overlap vertically; there is no edge between them.
        n: Number of components.
        seams: Whether there is a strip above and below: edges there are not counted.
        height: Rows of the strip.
    """
    length = (runs.stop - runs.start).astype(np.int64)
    edges = 2 + 2 * length
    for seam, row in zip(seams, (0, height - 1), strict=True):
        if seam:
            edges -= np.where(runs.row == row, length, 0)
    shared = np.bincount(runs.label[over.above] - 1, weights=2 * over.columns, minlength=n)
    return np.asarray((np.bincount(runs.label - 1, weights=edges, minlength=n) - shared).astype(np.int64))


def _hidden_edges(probability: ByteArray, pixels: tuple[LongArray, LongArray], of: LongArray, n: int) -> LongArray:
    """Edges to hidden pixels within the strip, per component."""
    hidden = np.zeros(n, dtype=np.int64)
    rows, cols = pixels
    if not n or probability[max(0, rows[0] - 1) : rows[-1] + 2].max() != NOT_OBSERVABLE:
        return hidden
    height, width = probability.shape
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        r, c = rows + down, cols + right
        inside = np.flatnonzero((r >= 0) & (r < height) & (c >= 0) & (c < width))
        facing = inside[probability[r[inside], c[inside]] == NOT_OBSERVABLE]
        hidden += np.bincount(of[facing], minlength=n)
    return hidden


def _image_sums(colours: ImageArray | None, of: LongArray, n: int) -> DoubleArray:
    """Sum of each image band per component, float64, shape (n, bands)."""
    if colours is None:
        return np.zeros((n, 0))
    sums = [np.bincount(of, weights=band, minlength=n) for band in colours]
    return np.column_stack(sums).astype(np.float64)


def _reduce(which: np.ufunc, group: LongArray, values: Column, k: int) -> Column:
    """Sum, minimum or maximum of the rows of ``values`` (none below 0) per group: shape (k, ...)."""
    start = np.iinfo(np.int64).max if which is np.minimum else 0
    out = np.full((k, *values.shape[1:]), start, dtype=values.dtype)
    which.at(out, group, values)
    return cast(Column, out)
