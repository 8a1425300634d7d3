"""Reading rows of both dates from top to bottom, each block of each file decoded once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.windows import Window as RasterWindow

from rscd.errors import DataError
from rscd.scene.pair import Pair
from rscd.scene.validity import read_validity
from rscd.scene.windows import WindowPlan
from rscd.types import BoolArray, ByteArray

MAX_CHUNK = 2048
"""Rows are read in whole blocks, but at most this many at once: an untiled file may be one block."""


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


class RowReader:
    """Rows of one raster, asked for from top to bottom; keeps only rows that may be asked for again."""

    def __init__(self, dataset: Any, bands: tuple[int, ...]) -> None:  # noqa: ANN401
        self._dataset, self._bands = dataset, bands
        self._first = self._next = 0
        self._pixels: ByteArray = np.empty((len(bands), 0, dataset.width), np.uint8)
        self._valid: BoolArray = np.empty((0, dataset.width), bool)
        self._chunk = min(dataset.block_shapes[bands[0] - 1][0], MAX_CHUNK)

    def rows(self, start: int, stop: int) -> tuple[ByteArray, BoolArray]:
        """Pixels (bands, rows, columns) and validity (rows, columns) of rows [start, stop).

        ``start`` may not go back. The arrays are not written to afterwards.

        Raises:
            DataError: A block cannot be decoded.
        """
        assert start >= self._first
        pixels, valid = [self._pixels[:, start - self._first :]], [self._valid[start - self._first :]]
        while self._next < stop:
            more_pixels, more_valid = self._read_chunk()
            skip = max(0, start - (self._next - more_valid.shape[0]))
            pixels.append(more_pixels[:, skip:])
            valid.append(more_valid[skip:])
        self._first = start
        self._pixels, self._valid = np.concatenate(pixels, axis=1), np.concatenate(valid)
        return self._pixels[:, : stop - start], self._valid[: stop - start]

    def _read_chunk(self) -> tuple[ByteArray, BoolArray]:
        """Read on to the next block border."""
        row = self._next
        stop = min((row // self._chunk + 1) * self._chunk, self._dataset.height)
        window = RasterWindow(0, row, self._dataset.width, stop - row)
        try:
            pixels = self._dataset.read(self._bands, window=window)
            valid = read_validity(self._dataset, self._bands, window, pixels)
        except (RasterioIOError, RasterioError) as error:
            cause = error.__cause__ or error
            problem = f"rows {row} to {stop - 1} cannot be read: {cause}"
            raise DataError(problem, path=self._dataset.name, remedy="fetch the file again") from error
        self._next = stop
        return pixels, valid


def read_bands(pair: Pair, plan: WindowPlan) -> Iterator[BandInput]:
    """Yield the rows of each row of windows, from top to bottom."""
    before, after = RowReader(pair.before, pair.bands), RowReader(pair.after, pair.bands)
    for k in range(plan.rows.count):
        start = plan.rows.start(k)
        stop = min(start + plan.rows.window, plan.rows.size)
        (first, first_valid), (second, second_valid) = before.rows(start, stop), after.rows(start, stop)
        yield BandInput(k, start, first, second, first_valid, second_valid)
