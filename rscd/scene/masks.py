"""Masks given by the user: rasters on any grid that mark ground of a date as not observable, e.g. clouds.

A mask only hides the ground that it marks: ground that it does not cover, and its nodata, are not masked. Each
pixel of the common grid takes the mask's pixel under its centre. Centres are transformed to the mask's grid on a
lattice of STEP px from the common grid's origin and interpolated between its nodes, so that a pixel's value does
not depend on the requested window.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rscd.core.errors import DataError
from rscd.core.grid import Mapping, outline_of
from rscd.core.types import BoolArray, DoubleArray, Grid, LongArray, Window
from rscd.scene.raster import Raster

STEP = 32
"""Spacing of the nodes with exact coordinates, px of the common grid."""
TILE = 512
"""Side of the blocks that are looked up at once, px."""
Axis = tuple[LongArray, DoubleArray]
"""For pixels along an axis: the node before each centre, and the position between it and the next node, 0..1."""
MOST_FINER = 10.0
"""Maximum ratio of the common grid's pixel size to the mask's."""


@dataclass(frozen=True)
class Mask:
    """A mask file."""

    raster: Raster
    """The file; one band."""
    values: tuple[int, ...] | None = None
    """Values that hide the ground; None: all except 0 and nodata."""


@dataclass(frozen=True)
class MaskReader:
    """A mask on the common grid."""

    mask: Mask
    """The mask file."""
    grid: Grid
    """The common grid, shifted as for the mask's date."""

    def read(self, window: Window) -> tuple[BoolArray, BoolArray]:
        """Hidden pixels, and pixels that the mask covers, (h, w) each, for a window of the common grid.

        Raises:
            DataError: A block of the mask cannot be decoded.
        """
        hidden = np.zeros((window.height, window.width), bool)
        covered = hidden.copy()
        for top in range(0, window.height, TILE):
            for left in range(0, window.width, TILE):
                part = np.s_[top : top + TILE, left : left + TILE]
                height, width = hidden[part].shape
                place = Window(window.row + top, window.col + left, height, width)
                hidden[part], covered[part] = self._look_up(place)
        return hidden, covered

    def covers(self, window: Window) -> bool:
        """Whether the file covers a whole window, tested on its border."""
        cols, rows = outline_of(Grid(self.grid.crs, self.grid.transform, window.width - 1, window.height - 1))
        there = self.mapping.to_source(cols + window.col + 0.5, rows + window.row + 0.5)
        return bool(self._inside(*there).all())

    @cached_property
    def mapping(self) -> Mapping:
        """From the common grid to the mask's grid."""
        return Mapping(self.grid, self.mask.raster.grid)

    def _look_up(self, window: Window) -> tuple[BoolArray, BoolArray]:
        cols, rows = self._centres(window)
        inside = self._inside(cols, rows)
        hidden, covered = np.zeros_like(inside), np.zeros_like(inside)
        if not inside.any():
            return hidden, covered
        col, row = np.floor(cols[inside]).astype(np.int64), np.floor(rows[inside]).astype(np.int64)
        top, left = int(row.min()), int(col.min())
        under = Window(top, left, int(row.max()) - top + 1, int(col.max()) - left + 1)
        try:
            (values,), known = self.mask.raster.read(under)
        except DataError as error:
            raise mask_error(error) from error
        if self.mask.values is None:
            shut = known & (values != 0)
        else:
            shut = np.isin(values, self.mask.values)
        hidden[inside] = shut[row - top, col - left]
        covered[inside] = (known | shut)[row - top, col - left]
        return hidden, covered

    def _inside(self, cols: DoubleArray, rows: DoubleArray) -> BoolArray:
        file = self.mask.raster.grid
        with np.errstate(invalid="ignore"):
            return np.asarray((cols >= 0) & (cols < file.width) & (rows >= 0) & (rows < file.height))

    def _centres(self, window: Window) -> tuple[DoubleArray, DoubleArray]:
        """Columns and rows of the mask under the centres of pixels (h, w)."""
        row, col = np.arange(window.row, window.row_stop), np.arange(window.col, window.col_stop)
        (up, u), (left, t) = _nodes(row), _nodes(col)
        rows, cols = np.arange(up[0], up[-1] + 2) * STEP, np.arange(left[0], left[-1] + 2) * STEP
        grid_cols, grid_rows = np.meshgrid(cols.astype(float), rows.astype(float))
        there = self.mapping.to_source(grid_cols.ravel(), grid_rows.ravel())
        shape = len(rows), len(cols)
        between = [_interpolated(part.reshape(shape), (up - up[0], u), (left - left[0], t)) for part in there]
        return between[0], between[1]


def _nodes(pixels: LongArray) -> Axis:
    """The nodes around the centres of pixels."""
    node, rest = np.divmod(pixels, STEP)
    return node, (rest + 0.5) / STEP


def _interpolated(nodes: DoubleArray, down: Axis, across: Axis) -> DoubleArray:
    """Values interpolated between the nodes of a lattice; NaN where a node has none."""
    (i, u), (j, t) = down, across
    with np.errstate(invalid="ignore"):
        rows = nodes[:, j] * (1 - t) + nodes[:, j + 1] * t
        return np.asarray(rows[i] * (1 - u)[:, None] + rows[i + 1] * u[:, None])


def check_mask(path: Path, dataset: Any) -> None:  # noqa: ANN401
    """Refuse a file that cannot be a mask.

    Raises:
        DataError: It has more than one band.
    """
    if dataset.count != 1:
        remedy = f"extract the mask band: gdal_translate -b N '{path}' OUT.tif"
        raise DataError(f"has {dataset.count} bands; a mask has one", path=path, remedy=remedy)


def mask_error(error: DataError) -> DataError:
    """A mask file's error without --bad-blocks in its remedy: a mask is read completely, or not at all."""
    remedy = "fetch the file again, or leave the mask out" if "--bad-blocks" in error.remedy else error.remedy
    return DataError(error.problem, path=error.path, remedy=remedy)


def check_lies_on(mask: Mask, grid: Grid) -> None:
    """Refuse a mask that does not cover any of the common grid, or is far finer.

    Raises:
        DataError: It does not overlap, or is too fine.
    """
    mapping, path = Mapping(grid, mask.raster.grid), mask.raster.path
    if mapping.overlap.share <= 0:
        remedy = "give the mask of this place, or check its CRS"
        raise DataError("does not overlap the pair", path=path, remedy=remedy)
    if mapping.ratio > MOST_FINER:
        problem = f"its pixels are {mapping.ratio:.3g} times finer than those of the pair"
        remedy = "make it coarser: gdalwarp -r mode -tr XRES YRES IN OUT.tif"
        raise DataError(problem, path=path, remedy=remedy)
