"""Array conventions, and the small values that pass between the rooms.

Arrays are ``(bands, rows, columns)`` for images, ``(rows, columns)`` for masks. Rows grow downwards in the
image in any CRS. A *probability value* is uint8: ``v`` in 0..254 stands for ``p = v / 254``, and 255 is
*not observable*. Lengths that are not in pixels carry their unit in the name (``_m``, ``_m2``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from affine import Affine
from numpy.typing import NDArray

ByteArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int32]
LongArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
ImageArray = NDArray[np.generic]

NOT_OBSERVABLE = 255
"""The value of a pixel that at least one date does not show."""
P_SCALE = 254
"""A probability p is stored as ``round(p * P_SCALE)``."""


class Window(NamedTuple):
    """A rectangle of a grid, in pixels."""

    row: int
    col: int
    height: int
    width: int

    @property
    def row_stop(self) -> int:
        """First row below the window."""
        return self.row + self.height

    @property
    def col_stop(self) -> int:
        """First column right of the window."""
        return self.col + self.width


def intersection(one: Window, other: Window) -> Window:
    """What two windows share; of no or negative size where they are apart."""
    row, col = max(one.row, other.row), max(one.col, other.col)
    return Window(row, col, min(one.row_stop, other.row_stop) - row, min(one.col_stop, other.col_stop) - col)


@dataclass(frozen=True)
class Grid:
    """The pixel grid that both dates, the probabilities and the polygons share."""

    crs: str
    """Coordinate reference system as WKT."""
    transform: tuple[float, float, float, float, float, float]
    """Affine ``(a, b, c, d, e, f)``: x = a*col + b*row + c, y = d*col + e*row + f, of pixel corners."""
    width: int
    """Columns."""
    height: int
    """Rows."""

    @property
    def shape(self) -> tuple[int, int]:
        """``(rows, columns)``."""
        return self.height, self.width

    @property
    def affine(self) -> Affine:
        """``transform`` with operators: ``grid.affine @ (columns, rows)`` are x and y."""
        return Affine(*self.transform)

    @property
    def mirrored(self) -> bool:
        """Whether rows grow upwards where columns grow to the right, or the like."""
        return self.affine.determinant > 0


class Runs(NamedTuple):
    """Changed pixels as stretches of rows, in reading order: rows ascend, and columns in a row; shape (n,) each."""

    row: IntArray
    """Row, counted from the first row of what they are part of."""
    start: IntArray
    """First column."""
    stop: IntArray
    """Column after the last one; the pixel there is unchanged."""
    label: IntArray
    """Component, from 1."""

    def labels_in(self, row: int, width: int) -> IntArray:
        """The labels along a row, 0 where nothing changed, shape (width,)."""
        steps = np.zeros(width + 1, np.int32)
        here = slice(*np.searchsorted(self.row, [row, row + 1]))
        steps[self.start[here]] = self.label[here]
        steps[self.stop[here]] = -self.label[here]
        return np.cumsum(steps[:-1], dtype=np.int32)


@dataclass(frozen=True)
class ComponentTable:
    """The connected components of changed pixels in one strip; row ``i`` describes label ``i + 1``.

    A component that crosses a strip's border has a row in each strip. Every column is additive (sums, counts), a
    maximum, or a bounding box, so the rows of the pieces join into the row of the whole without the pixels.
    """

    pixels: LongArray
    """Pixels, count."""
    area_m2: DoubleArray
    """Geodesic area, m2: the sum of the pixels' areas on the CRS's ellipsoid."""
    p_sum: LongArray
    """Sum of the probability values (0..254)."""
    p_max: ByteArray
    """Largest probability value."""
    hist_start: LongArray
    """Start of each component's entries in ``hist_value`` / ``hist_count``, length n + 1."""
    hist_value: ByteArray
    """Probability values that occur, ascending within a component."""
    hist_count: LongArray
    """How many pixels have that value."""
    before_sum: DoubleArray
    """Sums per input band of the before image, shape (n, bands); (n, 0) where no image was at hand."""
    after_sum: DoubleArray
    """Likewise of the after image."""
    presence_sum: DoubleArray
    """Sums of the presence values (0..254) before and after, shape (n, 2); (n, 0) of a model that gives none."""
    bbox: LongArray
    """Bounding boxes in grid pixels, shape (n, 4): first row, first column, row stop, column stop."""
    outline_edges: LongArray
    """Pixel edges between the component and a pixel outside it, or the border of the grid."""
    hidden_edges: LongArray
    """Those of ``outline_edges`` that face a not-observable pixel of the grid."""

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class StripRecord:
    """All that leaves inference for rows ``[row, row + height)`` of the common grid.

    Raster, polygons, journal, report and the split over workers consume these records and nothing else.
    """

    index: int
    """Which strip, counted from the top."""
    row: int
    """First row in the common grid."""
    probability: ByteArray
    """Calibrated probability values, shape (height, width), 255 = not observable."""
    threshold: int
    """Smallest probability value that counts as changed; what ``runs`` and ``table`` were made with."""
    runs: Runs
    """The changed pixels, with the labels 1..n of the strip's 4-connected components; derived, not hashed."""
    table: ComponentTable
    """One row a label."""
    read_errors: tuple[str, ...]
    """Messages of input blocks that could not be decoded and were masked."""
    sha256: str
    """Hex digest over index, row, shape and probability values."""
    presence: ByteArray | None = None
    """Values 0..254 of presence before and after, shape (2, height, width); None of a model that gives none."""

    @property
    def height(self) -> int:
        """Rows of the strip."""
        return int(self.probability.shape[0])

    @property
    def width(self) -> int:
        """Columns of the strip (all columns of the grid)."""
        return int(self.probability.shape[1])

    @property
    def top_labels(self) -> IntArray:
        """Labels on the strip's first row."""
        return self.runs.labels_in(0, self.width)

    @property
    def bottom_labels(self) -> IntArray:
        """Labels on the strip's last row."""
        return self.runs.labels_in(self.height - 1, self.width)


SLAB = 64
"""Rows that are worked on at once where that takes several times their own memory; even."""

Progress = Callable[[int, int], None]
"""Called with pixels done and pixels in all, after each strip."""
