"""Array conventions, and the small value types that rooms exchange.

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
"""Value of a pixel that is not valid in at least one date."""
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
    """The intersection of two windows; its size is zero or negative if they do not overlap."""
    row, col = max(one.row, other.row), max(one.col, other.col)
    return Window(row, col, min(one.row_stop, other.row_stop) - row, min(one.col_stop, other.col_stop) - col)


@dataclass(frozen=True)
class Grid:
    """The pixel grid that both dates, the probabilities and the polygons share."""

    crs: str
    """Coordinate reference system as WKT."""
    transform: tuple[float, float, float, float, float, float]
    """Affine ``(a, b, c, d, e, f)``: x = a*col + b*row + c, y = d*col + e*row + f, for pixel corners."""
    width: int
    """Number of columns."""
    height: int
    """Number of rows."""

    @property
    def shape(self) -> tuple[int, int]:
        """``(rows, columns)``."""
        return self.height, self.width

    @property
    def affine(self) -> Affine:
        """``transform`` as an operator: ``grid.affine @ (columns, rows)`` gives x and y."""
        return Affine(*self.transform)

    @property
    def mirrored(self) -> bool:
        """Whether the grid is mirrored, e.g. rows increase upwards while columns increase to the right."""
        return self.affine.determinant > 0


class Runs(NamedTuple):
    """Changed pixels as ranges of rows, in reading order: rows ascend, and columns in a row; shape (n,) each."""

    row: IntArray
    """Row, relative to the first row of the strip or block."""
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
    maximum, or a bounding box, so the rows of its parts can be merged without the pixels.
    """

    pixels: LongArray
    """Number of pixels."""
    area_m2: DoubleArray
    """Geodesic area, m2: the sum of the pixels' areas on the CRS's ellipsoid."""
    p_sum: LongArray
    """Sum of the probability values (0..254)."""
    p_max: ByteArray
    """Largest probability value."""
    hist_start: LongArray
    """Start of each component's entries in ``hist_value`` / ``hist_count``, length n + 1."""
    hist_value: ByteArray
    """Existing probability values, ascending within a component."""
    hist_count: LongArray
    """Number of pixels with that value."""
    before_sum: DoubleArray
    """Sums per input band of the before image, shape (n, bands); (n, 0) without images."""
    after_sum: DoubleArray
    """The same for the after image."""
    presence_sum: DoubleArray
    """Sums of the presence values (0..254) before and after, shape (n, 2); (n, 0) without a presence head."""
    bbox: LongArray
    """Bounding boxes in grid pixels, shape (n, 4): first row, first column, row stop, column stop."""
    outline_edges: LongArray
    """Pixel edges between the component and a pixel outside it, or the border of the grid."""
    hidden_edges: LongArray
    """The part of ``outline_edges`` that faces a not-observable pixel of the grid."""

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class StripRecord:
    """Complete output of inference for rows ``[row, row + height)`` of the common grid.

    Raster, polygons, journal, report and the split over workers use only these records.
    """

    index: int
    """Index of the strip, counted from the top."""
    row: int
    """First row in the common grid."""
    probability: ByteArray
    """Calibrated probability values, shape (height, width), 255 = not observable."""
    threshold: int
    """Smallest probability value that counts as changed; used for ``runs`` and ``table``."""
    runs: Runs
    """The changed pixels, with the labels 1..n of the strip's 4-connected components; derived, not hashed."""
    table: ComponentTable
    """One row per label."""
    read_errors: tuple[str, ...]
    """Messages of input blocks that could not be decoded and were masked."""
    sha256: str
    """Hex digest of index, row, shape and probability values."""
    presence: ByteArray | None = None
    """Values 0..254 of presence before and after, shape (2, height, width); None without a presence head."""

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
"""Rows processed at once where temporary arrays need several times their memory; even."""

Progress = Callable[[int, int], None]
"""Called with pixels done and in total, after each strip."""
