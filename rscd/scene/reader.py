"""Reading rows of both dates from top to bottom, each block of each file decoded once."""

from __future__ import annotations

from collections import deque
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

PIECE = 4096
"""Columns that are read at once, at least; whole blocks."""
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
    """Rows of one raster, asked for from top to bottom; keeps only blocks that may be asked for again."""

    def __init__(self, dataset: Any, bands: tuple[int, ...]) -> None:  # noqa: ANN401
        self._dataset, self._bands = dataset, bands
        block_height, block_width = dataset.block_shapes[bands[0] - 1]
        self._chunk_rows = min(block_height, MAX_CHUNK)
        self._piece_cols = -(-PIECE // block_width) * block_width
        self._chunks: deque[tuple[int, ByteArray, BoolArray]] = deque()
        self._next = 0

    def rows(self, start: int, stop: int) -> tuple[ByteArray, BoolArray]:
        """Pixels (bands, rows, columns) and validity (rows, columns) of rows [start, stop), start never going back.

        Raises:
            DataError: A block cannot be decoded.
        """
        while self._chunks and self._chunks[0][0] + len(self._chunks[0][2]) <= start:
            self._chunks.popleft()
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
        row, width = self._next, self._dataset.width
        self._next = min((row // self._chunk_rows + 1) * self._chunk_rows, self._dataset.height)
        height = self._next - row
        pixels, valid = np.empty((len(self._bands), height, width), np.uint8), np.empty((height, width), bool)
        for col in range(0, width, self._piece_cols):
            part = np.s_[..., col : col + self._piece_cols]
            window = RasterWindow(col, row, min(self._piece_cols, width - col), height)
            try:
                pixels[part] = self._dataset.read(self._bands, window=window)
                valid[part] = read_validity(self._dataset, self._bands, window, pixels[part])
            except (RasterioIOError, RasterioError) as error:
                problem = f"rows {row} to {self._next - 1} cannot be read: {error.__cause__ or error}"
                raise DataError(problem, path=self._dataset.name, remedy="fetch the file again") from error
        return row, pixels, valid


def read_bands(pair: Pair, plan: WindowPlan) -> Iterator[BandInput]:
    """Yield the rows of each row of windows, from top to bottom."""
    before, after = RowReader(pair.before, pair.bands), RowReader(pair.after, pair.bands)
    for k in range(plan.rows.count):
        start = plan.rows.start(k)
        stop = min(start + plan.rows.window, plan.rows.size)
        (first, first_valid), (second, second_valid) = before.rows(start, stop), after.rows(start, stop)
        yield BandInput(k, start, first, second, first_valid, second_valid)
