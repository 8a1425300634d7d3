"""A date on the common grid: any window of it, whether its pixels lie there already or have to be warped.

Both readers answer ``read(window)`` for windows of the common grid, and the same pixel has the same value in every
window that holds it. For warped dates that takes care: a warp's result depends on the window that is asked for. So
the common grid is cut into canonical blocks of BLOCK px from its origin; a block is always warped as a whole::

    0        512       1024
    |---------|---------|---     read(window) warps the four blocks that it touches,
    |     .===|==.      |        each from the source pixels under it and MARGIN more around,
    |-----I---|--I------|---     and cuts the window out
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject

from rscd.scene.grid import moved
from rscd.scene.mapping import Mapping
from rscd.scene.radiometry import Radiometry, scale
from rscd.scene.raster import Raster
from rscd.scene.validity import fill_invalid
from rscd.types import BoolArray, FloatArray, Grid, ImageArray, Window

BLOCK = 512
"""Side of a canonical block in px of the common grid."""
MARGIN = 8
"""Source pixels read around those under a block, for the kernel and for differences between PROJ versions."""
LEAST_CHUNK = 64
"""Rows that are read at once, at least: strips of one row are common."""
MAX_CHUNK = 2048
"""Rows are read in whole blocks, but at most this many at once: an untiled file may be one block."""
PIECE = 2048
"""Columns that are read at once, at least, where a file is tiled."""
BILINEAR_TO = 2.0
"""Source pixels along a pixel of the common grid up to which warping is bilinear; beyond it averages."""
WARP_TOLERANCE = 0.02
"""How far off GDAL's interpolated coordinates may be, in source px."""


@dataclass(frozen=True)
class PlainReader:
    """A file whose pixels are pixels of the common grid, perhaps with another origin and size."""

    raster: Raster
    """The file."""
    grid: Grid
    """The common grid."""
    offset: tuple[int, int] = (0, 0)
    """Row and column of the file at the common grid's origin."""
    radiometry: Radiometry | None = None
    """Scaling to 0..255; None leaves values as they are."""

    def read(self, window: Window) -> tuple[ImageArray, BoolArray]:
        """Pixels (bands, h, w) and validity (h, w) of a window; outside the file nothing is valid."""
        row, col = window.row + self.offset[0], window.col + self.offset[1]
        file = self.raster.grid
        top, left = max(row, 0), max(col, 0)
        bottom, right = min(row + window.height, file.height), min(col + window.width, file.width)
        if (top, left, bottom, right) == (row, col, row + window.height, col + window.width):
            pixels, valid = self.raster.read(Window(row, col, window.height, window.width))
            return scale(self.radiometry, pixels), valid
        kind = np.dtype(self.raster.dtype) if self.radiometry is None else np.dtype(np.float32)
        pixels = np.zeros((len(self.raster.bands), window.height, window.width), kind)
        valid = np.zeros((window.height, window.width), bool)
        if top < bottom and left < right:
            part = np.s_[top - row : bottom - row, left - col : right - col]
            found, seen = self.raster.read(Window(top, left, bottom - top, right - left))
            pixels[:, *part], valid[part] = scale(self.radiometry, found), seen
        return pixels, valid

    def row_stop(self, row: int) -> int:
        """The next border of file blocks below ``row``."""
        block = self.raster.dataset.block_shapes[self.raster.bands[0] - 1][0]
        chunk: int = min(-(-LEAST_CHUNK // block) * block, MAX_CHUNK)
        there = row + self.offset[0]
        return (there // chunk + 1) * chunk - self.offset[0]

    def columns(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """All at once where the file is in strips, else pieces of whole tiles."""
        wide = self.raster.dataset.block_shapes[self.raster.bands[0] - 1][1]
        piece = -(-PIECE // wide) * wide if self.raster.tiled else max(stop - start, 1) + self.raster.grid.width
        return _pieces(start, stop, piece, self.offset[1])


@dataclass(frozen=True)
class WarpReader:
    """A file that is resampled onto the common grid, a canonical block at a time."""

    raster: Raster
    """The file."""
    grid: Grid
    """The common grid."""
    radiometry: Radiometry | None = None
    """Scaling to 0..255, before resampling; None leaves values as they are."""
    shift: tuple[float, float] = (0.0, 0.0)
    """Rows and columns by which what the file shows lies off: common pixel (r, c) is read at (r, c) + shift."""

    @cached_property
    def _mapping(self) -> Mapping:
        return Mapping(replace(self.grid, transform=moved(self.grid.transform, *self.shift)), self.raster.grid)

    @property
    def ratio(self) -> float:
        """Source pixels along a pixel of the common grid."""
        return self._mapping.ratio

    def read(self, window: Window) -> tuple[ImageArray, BoolArray]:
        """Pixels (bands, h, w), uint8 or float32, and validity (h, w) of a window of the common grid."""
        kind = self._kind
        pixels = np.zeros((len(self.raster.bands), window.height, window.width), kind)
        valid = np.zeros((window.height, window.width), bool)
        for row in range(window.row - window.row % BLOCK, window.row_stop, BLOCK):
            for col in range(window.col - window.col % BLOCK, window.col_stop, BLOCK):
                top, bottom = max(row, window.row), min(row + BLOCK, window.row_stop)
                left, right = max(col, window.col), min(col + BLOCK, window.col_stop)
                found, seen = self._block(row, col)
                inside = np.s_[top - row : bottom - row, left - col : right - col]
                part = np.s_[top - window.row : bottom - window.row, left - window.col : right - window.col]
                pixels[:, *part], valid[part] = found[:, *inside], seen[inside]
        return pixels, valid

    def row_stop(self, row: int) -> int:
        """The next border of canonical blocks below ``row``."""
        return (row // BLOCK + 1) * BLOCK

    def columns(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Canonical blocks."""
        return _pieces(start, stop, PIECE - PIECE % BLOCK, 0)

    @property
    def _kind(self) -> np.dtype[np.generic]:
        plain = self.radiometry is None and self.raster.dtype == "uint8"
        return np.dtype(np.uint8 if plain else np.float32)

    def _block(self, row: int, col: int) -> tuple[ImageArray, BoolArray]:
        """Warp the block from (row, col): the whole of it, whatever part is wanted."""
        height, width = min(BLOCK, self.grid.height - row), min(BLOCK, self.grid.width - col)
        under = self._under(Window(row, col, height, width))
        if under is None:
            return np.zeros((len(self.raster.bands), height, width), self._kind), np.zeros((height, width), bool)
        raw, seen = self.raster.read(under)
        filled = fill_invalid(scale(self.radiometry, raw), seen)
        block = Window(row, col, height, width)
        warped = self._warp(filled, under, block, self.kernel)
        # No kernel reaches nodata, for it was filled; what is seen is judged by a kernel without overshoot.
        averaged = self.kernel == Resampling.average
        shown = self._warp(seen[None], under, block, Resampling.average if averaged else Resampling.bilinear)
        valid = (shown[0] >= (0.5 if averaged else 0.999)) & np.isfinite(warped).all(axis=0)
        if self._kind == np.uint8:
            return np.rint(np.clip(warped, 0, 255)).astype(np.uint8), valid
        return np.nan_to_num(warped), valid

    def _under(self, block: Window) -> Window | None:
        """The source pixels under a block and MARGIN more, inside the file; None where there are none."""
        steps = np.linspace(0, 1, 17)
        cols, rows = np.meshgrid(block.col + steps * block.width, block.row + steps * block.height)
        cols, rows = self._mapping.to_source(cols.ravel(), rows.ravel())
        sound = np.isfinite(cols) & np.isfinite(rows)
        if not sound.any():
            return None
        margin = MARGIN + 2 * self.ratio
        file = self.raster.grid
        top = max(0, int(np.floor(rows[sound].min() - margin)))
        left = max(0, int(np.floor(cols[sound].min() - margin)))
        bottom = min(file.height, int(np.ceil(rows[sound].max() + margin)))
        right = min(file.width, int(np.ceil(cols[sound].max() + margin)))
        return Window(top, left, bottom - top, right - left) if top < bottom and left < right else None

    @property
    def kernel(self) -> Resampling:
        """How pixels are resampled: bilinear down to 2:1, averaged beyond."""
        return Resampling.bilinear if self.ratio <= BILINEAR_TO else Resampling.average

    def _warp(self, layers: ImageArray, under: Window, block: Window, kernel: Resampling) -> FloatArray:
        """Resample layers (n, h, w) of source pixels to a block; float32, 0 outside the source."""
        out = np.zeros((len(layers), block.height, block.width), np.float32)
        with rasterio.Env(GDAL_NUM_THREADS=1):
            reproject(
                np.nan_to_num(layers.astype(np.float32)),
                out,
                src_transform=Affine(*moved(self.raster.grid.transform, under.row, under.col)),
                src_crs=CRS.from_wkt(self.raster.grid.crs),
                dst_transform=Affine(*moved(self._mapping.grid.transform, block.row, block.col)),
                dst_crs=CRS.from_wkt(self.grid.crs),
                resampling=kernel,
                tolerance=WARP_TOLERANCE,
            )
        return out


DateReader: TypeAlias = PlainReader | WarpReader
"""A date's pixels on the common grid."""


def _pieces(start: int, stop: int, piece: int, offset: int) -> Iterator[tuple[int, int]]:
    """Cut [start, stop) where ``x + offset`` is a multiple of ``piece``."""
    while start < stop:
        end = min(((start + offset) // piece + 1) * piece - offset, stop)
        yield start, end
        start = end
