"""Reading rows of both dates from top to bottom, each block of each file decoded, or warped, once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from rscd.scene.pair import Pair
from rscd.scene.radiometry import to_bytes
from rscd.scene.readers import DateReader
from rscd.scene.windows import WindowPlan
from rscd.types import BoolArray, ByteArray, Window, meet


@dataclass(frozen=True)
class BandInput:
    """The rows of both dates that one row of windows needs."""

    index: int
    """Which row of windows."""
    row: int
    """First row of the arrays in the grid."""
    before: ByteArray
    """Pixels (bands, rows, columns) of the earlier date."""
    after: ByteArray
    """Pixels of the later date."""
    before_valid: BoolArray
    """What the earlier date shows, (rows, columns)."""
    after_valid: BoolArray
    """What the later date shows."""
    wanted: BoolArray | None = None
    """What is inside the area of interest, (rows, columns); None where there is none."""
    read_errors: tuple[str, ...] = ()
    """Blocks that could not be decoded and were masked, met on the way to these rows."""


class RowReader:
    """Rows of one date, asked for from top to bottom; keeps only blocks that may be asked for again.

    Args:
        reader: The date.
        crop: Which part of the reader's grid the rows are of.
        region: What is worth reading, in px of the reader's grid; elsewhere nothing is valid.
    """

    def __init__(self, reader: DateReader, crop: Window, region: Window | None = None) -> None:
        self._reader, self._crop = reader, crop
        self._region = meet(crop, region or crop)
        self._chunks: deque[tuple[int, ByteArray, BoolArray]] = deque()
        self._next = crop.row

    def rows(self, start: int, stop: int) -> tuple[ByteArray, BoolArray]:
        """Pixels (bands, rows, columns), validity (rows, columns) of rows [start, stop) of the crop; never back.

        What lies between is not read.

        Raises:
            DataError: A block cannot be decoded.
        """
        start, stop = start + self._crop.row, stop + self._crop.row
        while self._chunks and self._chunks[0][0] + len(self._chunks[0][2]) <= start:
            self._chunks.popleft()
        if not self._chunks:
            self._next = max(self._next, start)
        while self._next < stop:
            self._chunks.append(self._read_chunk())
        assert self._chunks[0][0] <= start
        parts = [np.s_[max(0, start - row) : stop - row] for row, _, _ in self._chunks]
        pixels = [chunk[:, part] for (_, chunk, _), part in zip(self._chunks, parts, strict=True)]
        valid = [chunk[part] for (_, _, chunk), part in zip(self._chunks, parts, strict=True)]
        return np.concatenate(pixels, axis=1), np.concatenate(valid)

    def _read_chunk(self) -> tuple[int, ByteArray, BoolArray]:
        """Read on to the next block border: first row, pixels, validity.

        In pieces of some columns, so that GDAL's cache need not hold a row of blocks of all bands at once.
        """
        row, crop = self._next, self._crop
        self._next = min(self._reader.row_stop(row), crop.row_stop)
        height = self._next - row
        pixels = np.zeros((len(self._reader.raster.bands), height, crop.width), np.uint8)
        valid = np.zeros((height, crop.width), bool)
        part = meet(self._region, Window(row, crop.col, height, crop.width))
        if part.height > 0 and part.width > 0:
            down = slice(part.row - row, part.row_stop - row)
            for left, right in self._reader.columns(part.col, part.col_stop):
                found, seen = self._reader.read(Window(part.row, left, part.height, right - left))
                across = slice(left - crop.col, right - crop.col)
                pixels[:, down, across], valid[down, across] = to_bytes(found), seen
        return row, pixels, valid


def read_bands(pair: Pair, plan: WindowPlan, wanted_rows: Iterable[int] | None = None) -> Iterator[BandInput]:
    """Yield the rows of each row of windows, from top to bottom.

    Beyond what both dates cover, a window's length is still read for context, and no more.

    Args:
        pair: The two dates.
        plan: The windows.
        wanted_rows: Which rows of windows, ascending; default: all.
    """
    reach, box = plan.rows.window, pair.region
    region = Window(box.row - reach, box.col - reach, box.height + 2 * reach, box.width + 2 * reach)
    before, after = (RowReader(date, pair.crop, region) for date in (pair.before, pair.after))
    pair.bad_blocks.take()  # what the sample met is met again
    for k in range(plan.rows.count) if wanted_rows is None else wanted_rows:
        start = plan.rows.start(k)
        stop = min(start + plan.rows.window, plan.rows.size)
        (first, first_valid), (second, second_valid) = before.rows(start, stop), after.rows(start, stop)
        wanted = None
        if pair.aoi is not None:
            wanted = pair.aoi.mask(Window(start + pair.crop.row, pair.crop.col, stop - start, pair.crop.width))
        yield BandInput(k, start, first, second, first_valid, second_valid, wanted, pair.bad_blocks.take())
