"""Reads windows of both dates in reading order; each block of each file is decoded, or warped, once.

Blocks are read in pieces, just before the first window that needs them, and dropped after the last one. So a row of
blocks and some pieces are held in memory, independent of the scene's height::

    pieces   . . . . . . . . |#######|#######|      dropped . , held #, not read yet blank
             |#######|#######|#######|#######|
             |#######|#######|#######|#######|
                     |~~ window ~~|
             |#######|#######|#######|
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from rscd.core.types import BoolArray, ByteArray, ImageArray, Window, intersection
from rscd.scene.aligned import DateReader, Loaded
from rscd.scene.pair import Pair
from rscd.scene.radiometry import scale, to_bytes
from rscd.scene.windows import WindowPlan


@dataclass(frozen=True)
class WindowInput:
    """One window of both dates; cropped if the scene is smaller than a window."""

    k: int
    """Index of the row of windows."""
    j: int
    """Index of the window in its row."""
    place: Window
    """Its window in the grid."""
    cell: Window
    """The pixels that are complete once it is blended: rows of its strip, columns up to the next window's start."""
    before: ByteArray
    """Pixels (bands, h, w) of the earlier date."""
    after: ByteArray
    """Pixels of the later date."""
    before_valid: BoolArray
    """Validity of the earlier date, (h, w)."""
    after_valid: BoolArray
    """Validity of the later date, (h, w)."""
    wanted: BoolArray | None = None
    """Pixels inside the area of interest, (h, w); None without one."""
    read_errors: tuple[str, ...] = ()
    """Blocks that could not be decoded and were masked, found while reading this window."""
    before_numbers: ImageArray | None = None
    """Original values of the earlier date, near infrared last if it is read; None: equal to ``before``."""
    after_numbers: ImageArray | None = None
    """The same for the later date."""

    @property
    def numbers(self) -> tuple[ImageArray, ImageArray]:
        """Original values of both dates, (bands, h, w) each."""
        return (
            self.before if self.before_numbers is None else self.before_numbers,
            self.after if self.after_numbers is None else self.after_numbers,
        )

    @cached_property
    def shown(self) -> BoolArray:
        """Pixels valid in both dates, (h, w)."""
        return self.before_valid & self.after_valid

    @cached_property
    def valid(self) -> BoolArray:
        """Pixels valid in both dates, inside the area of interest."""
        return self.shown if self.wanted is None else self.shown & self.wanted

    def within_cell(self) -> WindowInput:
        """The part in its cell; pixels outside the area of interest are invalid in both dates.

        If no pixel is valid, not even in the rest of the window, it takes no memory.
        """
        part, shape = self.in_cell, (self.cell.height, self.cell.width)
        arrays = self.before, self.after, self.before_numbers, self.after_numbers
        if self.valid.any():
            valid = self.valid[part].copy()
            dates = [None if array is None else array[:, *part].copy() for array in arrays]
        else:
            valid = np.broadcast_to(np.zeros((), np.bool_), shape)
            dates = [None if array is None else _nothing(array, shape) for array in arrays]
        names = "before", "after", "before_numbers", "after_numbers"
        parts: dict[str, Any] = dict(zip(names, dates, strict=True))
        return replace(self, place=self.cell, before_valid=valid, after_valid=valid, wanted=None, **parts)

    @property
    def in_cell(self) -> tuple[slice, slice]:
        """Slices of the cell in the window's arrays."""
        top, left = self.cell.row - self.place.row, self.cell.col - self.place.col
        return slice(top, top + self.cell.height), slice(left, left + self.cell.width)


def _nothing(array: ImageArray, shape: tuple[int, int]) -> ImageArray:
    """Zeros with the same bands and dtype, which take no memory."""
    return np.broadcast_to(np.zeros((), array.dtype), (len(array), *shape))


class _Piece(NamedTuple):
    """Whole blocks of one date."""

    place: Window
    """Its window in the reader's grid."""
    pixels: ImageArray | None
    """Shape (bands, h, w), bytes; None if they are to be scaled from ``numbers``."""
    numbers: ImageArray
    """Original values, shape (bands and near infrared, h, w)."""
    valid: BoolArray | None
    """Shape (h, w); None if all are valid."""


@dataclass
class _PieceRow:
    """A row of blocks: pieces in memory, and pieces to be read, from left to right."""

    top: int
    bottom: int
    part: Window
    """The part of it that is read."""
    to_come: deque[tuple[int, int]]
    """First column and column stop of each piece to be read."""
    held: deque[_Piece] = field(default_factory=deque)


class DateWindows:
    """Windows of one date, requested in reading order.

    Args:
        reader: The date.
        crop: Window whose origin is that of the windows, px of the reader's grid; they may begin before it.
        region: The part that is read, px of the reader's grid; outside nothing is valid. Default: the crop.
    """

    def __init__(self, reader: DateReader, crop: Window, region: Window | None = None) -> None:
        self._reader, self._crop = reader, crop
        self._region = crop if region is None else region
        self._rows: deque[_PieceRow] = deque()
        self._next = self._region.row

    def read(self, window: Window, next_row: int) -> tuple[ByteArray, BoolArray, ImageArray | None]:
        """Pixels (bands, h, w), validity (h, w) and original values of a window of the crop.

        Pixels between rows of windows are not read.

        Args:
            window: To the right of the previous one, or in a later row.
            next_row: First row of the next row of windows: blocks above it are dropped afterwards.

        Returns:
            The original values are None if they equal the pixels.

        Raises:
            DataError: A block cannot be decoded.
        """
        place = window._replace(row=window.row + self._crop.row, col=window.col + self._crop.col)
        pieces: list[_Piece] = []
        for row in self._reaching(place):
            while row.to_come and row.to_come[0][0] < place.col_stop:
                row.held.append(self._read_piece(row.part, *row.to_come.popleft()))
            if row.bottom <= next_row + self._crop.row:
                while row.held and row.held[0].place.col_stop <= place.col:
                    row.held.popleft()
            pieces += row.held
        return self._put_together(pieces, place)

    def _put_together(self, pieces: list[_Piece], place: Window) -> tuple[ByteArray, BoolArray, ImageArray | None]:
        raster, shape = self._reader.raster, (place.height, place.width)
        valid, bands = np.zeros(shape, np.bool_), len(raster.bands)
        for piece in pieces:
            _copy(piece.place, place, True if piece.valid is None else piece.valid[None], valid[None])
        kind = pieces[0].numbers.dtype if pieces else np.dtype(np.uint8)
        numbers = np.zeros((bands + (raster.nir is not None), *shape), kind)
        for piece in pieces:
            _copy(piece.place, place, piece.numbers, numbers)
        if not pieces or pieces[0].pixels is None:
            pixels = to_bytes(scale(self._reader.radiometry, numbers[:bands]))
        else:
            pixels = np.zeros((bands, *shape), np.uint8)
            for piece in pieces:
                assert piece.pixels is not None, "all pieces of a date are of one kind"
                _copy(piece.place, place, piece.pixels, pixels)
        same = self._reader.radiometry is None and raster.nir is None and numbers.dtype == np.uint8
        return pixels, valid, None if same else numbers

    def _reaching(self, place: Window) -> list[_PieceRow]:
        """The rows of blocks that a window intersects; those above are dropped."""
        while self._rows and self._rows[0].bottom <= place.row:
            self._rows.popleft()
        if not self._rows:
            self._next = max(self._next, place.row)
        while self._next < place.row_stop:
            top = self._next
            self._next = self._reader.row_stop(top)
            part = intersection(self._region, Window(top, self._region.col, self._next - top, self._region.width))
            columns = self._reader.columns(part.col, part.col_stop) if part.height > 0 else ()
            self._rows.append(_PieceRow(top, self._next, part, deque(columns)))
        return [row for row in self._rows if row.top < place.row_stop]

    def _read_piece(self, part: Window, left: int, right: int) -> _Piece:
        place = part._replace(col=left, width=right - left)
        loaded: Loaded = self._reader.load(place)
        pixels = None if loaded.pixels is None else to_bytes(loaded.pixels)
        return _Piece(place, pixels, loaded.numbers, None if loaded.valid.all() else loaded.valid)


def _copy(source: Window, place: Window, values: ImageArray | bool, out: ImageArray) -> None:
    """Copy values (bands, h, w) of one window, or a single value, into the array of another window."""
    both = intersection(source, place)
    if both.height <= 0 or both.width <= 0:
        return
    there, here = (
        np.s_[both.row - one.row : both.row_stop - one.row, both.col - one.col : both.col_stop - one.col]
        for one in (source, place)
    )
    out[:, *here] = values if isinstance(values, bool) else values[:, *there]


def read_windows(pair: Pair, plan: WindowPlan, wanted_rows: Iterable[int] | None = None) -> Iterator[WindowInput]:
    """Yield the windows row by row, from left to right and from top to bottom.

    Outside the overlap of both dates, one window's length is still read for context, and no more. Around an area of
    interest windows contain the scene.

    Args:
        pair: The two dates.
        plan: The windows.
        wanted_rows: Indices of the rows of windows, ascending; default: all.
    """
    before, after = (DateWindows(date, pair.crop, _read_region(pair, plan)) for date in (pair.before, pair.after))
    pair.bad_blocks.take()  # blocks of the sample are recorded again
    rows = range(plan.rows.count) if wanted_rows is None else wanted_rows
    first_col, last_col = plan.place(0, 0).col, plan.place(0, plan.cols.count - 1).col_stop
    for k, following in pairwise([*rows, plan.rows.count]):
        next_row = plan.rows.start(following) if following < plan.rows.count else plan.rows.size
        wanted = None
        for j in range(plan.cols.count):
            place = plan.place(k, j)
            if pair.aoi is not None and wanted is None:
                row, col = place.row + pair.crop.row, first_col + pair.crop.col
                wanted = pair.aoi.mask(Window(row, col, place.height, last_col - first_col))
            first, first_valid, first_numbers = before.read(place, next_row)
            second, second_valid, second_numbers = after.read(place, next_row)
            inside = None if wanted is None else wanted[:, place.col - first_col : place.col_stop - first_col]
            errors = pair.bad_blocks.take()
            dates = first, second, first_valid, second_valid
            numbers = first_numbers, second_numbers
            yield WindowInput(k, j, place, plan.cell(k, j), *dates, inside, errors, *numbers)


def _read_region(pair: Pair, plan: WindowPlan) -> Window:
    """The part of the scene that windows contain, up to a window's length outside the overlap of both dates."""
    first, last = plan.place(0, 0), plan.place(plan.rows.count - 1, plan.cols.count - 1)
    top, left = first.row + pair.crop.row, first.col + pair.crop.col
    windows = Window(top, left, last.row_stop - first.row, last.col_stop - first.col)
    reach, box = plan.rows.window, pair.overlap.window
    return intersection(
        windows, Window(box.row - reach, box.col - reach, box.height + 2 * reach, box.width + 2 * reach)
    )


def windows_in_memory(
    before: ByteArray, after: ByteArray, plan: WindowPlan, wanted_rows: Iterable[int] | None = None
) -> Iterator[WindowInput]:
    """The same for images (bands, rows, columns) in memory that are completely valid."""
    for k in range(plan.rows.count) if wanted_rows is None else wanted_rows:
        for j in range(plan.cols.count):
            place = plan.place(k, j)
            part = np.s_[:, place.row : place.row_stop, place.col : place.col_stop]
            seen = np.ones((place.height, place.width), np.bool_)
            yield WindowInput(k, j, place, plan.cell(k, j), before[part], after[part], seen, seen)
