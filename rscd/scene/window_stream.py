"""Reading windows of both dates in reading order, each block of each file decoded, or warped, once.

Blocks are read piece by piece, just before the first window that needs them, and dropped behind the last one. So
what is held is a row of blocks and some pieces, independent of the scene's height::

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
    """One window of both dates; at the end of a scene that is smaller than it, what there is of it."""

    k: int
    """Which row of windows."""
    j: int
    """Which window of the row."""
    place: Window
    """Where it lies in the grid."""
    cell: Window
    """What is complete once it is blended: rows of its strip, columns up to the next window's first."""
    before: ByteArray
    """Pixels (bands, h, w) of the earlier date."""
    after: ByteArray
    """Pixels of the later date."""
    before_valid: BoolArray
    """What the earlier date shows, (h, w)."""
    after_valid: BoolArray
    """What the later date shows."""
    wanted: BoolArray | None = None
    """What is inside the area of interest, (h, w); None where there is none."""
    read_errors: tuple[str, ...] = ()
    """Blocks that could not be decoded and were masked, met on the way to this window."""
    before_numbers: ImageArray | None = None
    """The earlier date in its file's own numbers, near infrared last if it is read; None: they are ``before``."""
    after_numbers: ImageArray | None = None
    """Likewise of the later date."""

    @property
    def numbers(self) -> tuple[ImageArray, ImageArray]:
        """Both dates in their files' own numbers, (bands, h, w) each."""
        return (
            self.before if self.before_numbers is None else self.before_numbers,
            self.after if self.after_numbers is None else self.after_numbers,
        )

    @cached_property
    def shown(self) -> BoolArray:
        """What both dates show, (h, w)."""
        return self.before_valid & self.after_valid

    @cached_property
    def valid(self) -> BoolArray:
        """What both dates show, and is wanted."""
        return self.shown if self.wanted is None else self.shown & self.wanted

    def within_cell(self) -> WindowInput:
        """What there is in its cell alone; what is not wanted is not valid in either date.

        Where nothing is valid, not even in the rest of the window, it takes no memory.
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
        """The cell's rows and columns in the window's arrays."""
        top, left = self.cell.row - self.place.row, self.cell.col - self.place.col
        return slice(top, top + self.cell.height), slice(left, left + self.cell.width)


def _nothing(array: ImageArray, shape: tuple[int, int]) -> ImageArray:
    """Zeros of as many bands and the same dtype, that take no memory."""
    return np.broadcast_to(np.zeros((), array.dtype), (len(array), *shape))


class _Piece(NamedTuple):
    """Whole blocks of one date."""

    place: Window
    """In px of the reader's grid."""
    pixels: ImageArray | None
    """Shape (bands, h, w): bytes, or None where they are to be scaled from the numbers."""
    numbers: ImageArray
    """Shape (bands and near infrared, h, w)."""
    valid: BoolArray | None
    """Shape (h, w); None where all are."""


@dataclass
class _PieceRow:
    """A row of blocks: the pieces that are held, and those to come, from left to right."""

    top: int
    bottom: int
    part: Window
    """What of it is read."""
    to_come: deque[tuple[int, int]]
    """First column and column stop of each."""
    held: deque[_Piece] = field(default_factory=deque)


class DateWindows:
    """Windows of one date, asked for in reading order.

    Args:
        reader: The date.
        crop: Where the windows count from, px of the reader's grid; they may begin before it.
        region: What is read, in px of the reader's grid; elsewhere nothing is valid. Default: the crop.
    """

    def __init__(self, reader: DateReader, crop: Window, region: Window | None = None) -> None:
        self._reader, self._crop = reader, crop
        self._region = crop if region is None else region
        self._rows: deque[_PieceRow] = deque()
        self._next = self._region.row

    def read(self, window: Window, next_row: int) -> tuple[ByteArray, BoolArray, ImageArray | None]:
        """Pixels (bands, h, w), validity (h, w) and the file's own numbers of a window of the crop.

        What lies between rows of windows is not read.

        Args:
            window: To the right of the one before, or in a later row.
            next_row: First row of the row of windows that comes next: what is above it is dropped behind.

        Returns:
            The numbers are None where they are the pixels.

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
                assert piece.pixels is not None, "a date's pieces are alike"
                _copy(piece.place, place, piece.pixels, pixels)
        same = self._reader.radiometry is None and raster.nir is None and numbers.dtype == np.uint8
        return pixels, valid, None if same else numbers

    def _reaching(self, place: Window) -> list[_PieceRow]:
        """The rows of blocks that a window touches; those above are dropped."""
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
    """Fill in what values (bands, h, w) of a window, or one value, show of another window."""
    both = intersection(source, place)
    if both.height <= 0 or both.width <= 0:
        return
    there, here = (
        np.s_[both.row - one.row : both.row_stop - one.row, both.col - one.col : both.col_stop - one.col]
        for one in (source, place)
    )
    out[:, *here] = values if isinstance(values, bool) else values[:, *there]


def read_windows(pair: Pair, plan: WindowPlan, wanted_rows: Iterable[int] | None = None) -> Iterator[WindowInput]:
    """Yield the windows of each row of windows, from left to right and from top to bottom.

    Beyond what both dates cover, a window's length is still read for context, and no more. Around an area of
    interest windows show what the scene does.

    Args:
        pair: The two dates.
        plan: The windows.
        wanted_rows: Which rows of windows, ascending; default: all.
    """
    before, after = (DateWindows(date, pair.crop, _read_region(pair, plan)) for date in (pair.before, pair.after))
    pair.bad_blocks.take()  # what the sample met is met again
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
    """What the windows show of the scene, as far as a window's length beyond what both dates cover."""
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
    """The same of images (bands, rows, columns) that are in memory and valid all over."""
    for k in range(plan.rows.count) if wanted_rows is None else wanted_rows:
        for j in range(plan.cols.count):
            place = plan.place(k, j)
            part = np.s_[:, place.row : place.row_stop, place.col : place.col_stop]
            seen = np.ones((place.height, place.width), np.bool_)
            yield WindowInput(k, j, place, plan.cell(k, j), before[part], after[part], seen, seen)
