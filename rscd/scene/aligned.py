"""A date on the common grid: reads any window of it, with or without warping.

Both readers implement ``read(window)`` for windows of the common grid, and a pixel has the same value in every
window that contains it. For warped dates this needs care, because the result of a warp depends on the requested
window. So the common grid is divided into canonical blocks of BLOCK px from its origin; a block is always warped
as a whole::

    0        512       1024
    |---------|---------|---     read(window) warps the four blocks that it touches,
    |     .===|==.      |        each from the source pixels under it and MARGIN more around,
    |-----I---|--I------|---     and cuts the window out
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject

from rscd.core.grid import Mapping, moved
from rscd.core.types import BoolArray, FloatArray, Grid, ImageArray, Window
from rscd.scene.masks import Mask, MaskReader
from rscd.scene.radiometry import Radiometry, scale
from rscd.scene.raster import Raster, fill_invalid

BLOCK = 512
"""Side of a canonical block, px of the common grid."""
MARGIN = 8
"""Margin of source pixels read around a block, for the kernel and for differences between PROJ versions."""
LEAST_CHUNK = 64
"""Minimum number of rows read at once: strips of one row are common."""
MAX_CHUNK = 2048
"""Maximum number of rows read at once, in whole blocks: an untiled file may be one block."""
PIECE = 2048
"""Minimum number of columns read at once from a tiled file."""
BILINEAR_TO = 2.0
"""Source pixels per pixel of the common grid up to which warping is bilinear; above, pixels are averaged."""
WARP_TOLERANCE = 0.02
"""Tolerance of GDAL's interpolated coordinates, source px."""


class Loaded(NamedTuple):
    """A window of a date: pixels for the network, and original values for the polygons' columns."""

    pixels: ImageArray | None
    """Shape (bands, h, w), scaled to 0..255; None if it is ``numbers`` without near infrared, still to be
    scaled."""
    numbers: ImageArray
    """The file's original values, shape (bands, h, w), near infrared last if it is read."""
    valid: BoolArray
    """Shape (h, w)."""


@dataclass(frozen=True)
class PlainReader:
    """A file on the pixels of the common grid, possibly with another origin and size."""

    raster: Raster
    """The file."""
    grid: Grid
    """The common grid."""
    offset: tuple[int, int] = (0, 0)
    """Row and column of the file at the common grid's origin."""
    radiometry: Radiometry | None = None
    """Scaling to 0..255; None leaves values unchanged."""
    mask: Mask | None = None
    """Mask of the date's unobservable ground."""

    def read(self, window: Window) -> tuple[ImageArray, BoolArray]:
        """Pixels (bands, h, w) and validity (h, w) of a window; outside the file nothing is valid."""
        _, numbers, valid = self.load(window, nir=False)
        return scale(self.radiometry, numbers), valid

    def load(self, window: Window, *, nir: bool = True) -> Loaded:
        """A window with the file's original values, with near infrared if it is read."""
        row, col = window.row + self.offset[0], window.col + self.offset[1]
        file = self.raster.grid
        top, left = max(row, 0), max(col, 0)
        bottom, right = min(row + window.height, file.height), min(col + window.width, file.width)
        if (top, left, bottom, right) == (row, col, row + window.height, col + window.width):
            numbers, valid = self.raster.read(Window(row, col, window.height, window.width), nir=nir)
            return Loaded(None, numbers, self._unmasked(window, valid))
        nir = nir and self.raster.nir is not None
        kind = self.raster.numbers_dtype if nir else np.dtype(self.raster.dtype)
        numbers = np.zeros((len(self.raster.bands) + nir, window.height, window.width), kind)
        valid = np.zeros((window.height, window.width), bool)
        if top < bottom and left < right:
            part = np.s_[top - row : bottom - row, left - col : right - col]
            under = Window(top, left, bottom - top, right - left)
            numbers[:, *part], valid[part] = self.raster.read(under, nir=nir)
        return Loaded(None, numbers, self._unmasked(window, valid))

    @cached_property
    def masked(self) -> MaskReader | None:
        """The mask on the common grid."""
        return None if self.mask is None else MaskReader(self.mask, self.grid)

    def _unmasked(self, window: Window, valid: BoolArray) -> BoolArray:
        return valid if self.masked is None else valid & ~self.masked.read(window)[0]

    def row_stop(self, row: int) -> int:
        """The next boundary of file blocks below ``row``."""
        block = self.raster.dataset.block_shapes[self.raster.bands[0] - 1][0]
        chunk: int = min(-(-LEAST_CHUNK // block) * block, MAX_CHUNK)
        there = row + self.offset[0]
        return (there // chunk + 1) * chunk - self.offset[0]

    def columns(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """All columns at once if the file is in strips, else pieces of whole tiles."""
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
    """Scaling to 0..255, before resampling; None leaves values unchanged."""
    shift: tuple[float, float] = (0.0, 0.0)
    """Rows and columns by which the image is displaced: common pixel (r, c) is read at (r, c) + shift."""
    mask: Mask | None = None
    """Mask of the date's unobservable ground; shifted with the file."""

    @cached_property
    def _mapping(self) -> Mapping:
        return Mapping(self._moved_grid, self.raster.grid)

    @property
    def _moved_grid(self) -> Grid:
        return replace(self.grid, transform=moved(self.grid.transform, *self.shift))

    @cached_property
    def masked(self) -> MaskReader | None:
        """The mask on the common grid, shifted like the date."""
        return None if self.mask is None else MaskReader(self.mask, self._moved_grid)

    @property
    def ratio(self) -> float:
        """Source pixels per pixel of the common grid, along an axis."""
        return self._mapping.ratio

    def read(self, window: Window) -> tuple[ImageArray, BoolArray]:
        """Pixels (bands, h, w), uint8 or float32, and validity (h, w) of a window of the common grid."""
        pixels, _, valid = self._read(window, numbers=False)
        return pixels, valid

    def load(self, window: Window) -> Loaded:
        """A window with the file's warped original values, rounded if the file has integers, and near infrared."""
        pixels, numbers, valid = self._read(window, numbers=True)
        apart = pixels if self.radiometry is not None else None
        return Loaded(apart, pixels if numbers is None else numbers, valid)

    def _read(self, window: Window, *, numbers: bool) -> tuple[ImageArray, ImageArray | None, BoolArray]:
        shape = window.height, window.width
        bands, nir = len(self.raster.bands), self.raster.nir is not None
        pixels = np.zeros((bands, *shape), self._kind)
        more = numbers and (self.radiometry is not None or nir)
        apart = np.zeros((bands + nir, *shape), self._numbers_kind) if more else None
        valid = np.zeros(shape, bool)
        for row in range(window.row - window.row % BLOCK, window.row_stop, BLOCK):
            for col in range(window.col - window.col % BLOCK, window.col_stop, BLOCK):
                top, bottom = max(row, window.row), min(row + BLOCK, window.row_stop)
                left, right = max(col, window.col), min(col + BLOCK, window.col_stop)
                inside = np.s_[top - row : bottom - row, left - col : right - col]
                part = np.s_[top - window.row : bottom - window.row, left - window.col : right - window.col]
                found, seen, own_numbers = self._block(row, col, numbers=more)
                pixels[:, *part], valid[part] = found[:, *inside], seen[inside]
                if apart is not None and own_numbers is not None:
                    apart[:, *part] = own_numbers[:, *inside]
        if self.masked is not None:
            valid &= ~self.masked.read(window)[0]
        return pixels, apart, valid

    def row_stop(self, row: int) -> int:
        """The next boundary of canonical blocks below ``row``."""
        return (row // BLOCK + 1) * BLOCK

    def columns(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Canonical blocks."""
        return _pieces(start, stop, PIECE - PIECE % BLOCK, 0)

    @property
    def _kind(self) -> np.dtype[np.generic]:
        plain = self.radiometry is None and self.raster.dtype == "uint8"
        return np.dtype(np.uint8 if plain else np.float32)

    @property
    def _numbers_kind(self) -> np.dtype[Any]:
        """Data type of the original values: integers stay integers; values that may be unknown can be NaN."""
        kind = self.raster.numbers_dtype
        return kind if kind.kind == "u" else np.dtype(np.float32)

    def _block(self, row: int, col: int, *, numbers: bool) -> tuple[ImageArray, BoolArray, ImageArray | None]:
        """Warp the block from (row, col): always the whole block.

        Returns:
            Pixels for the network, validity, and the file's original values if requested.
        """
        height, width = min(BLOCK, self.grid.height - row), min(BLOCK, self.grid.width - col)
        under = self._under(Window(row, col, height, width))
        bands = len(self.raster.bands)
        if under is None:
            return np.zeros((bands, height, width), self._kind), np.zeros((height, width), bool), None
        raw, seen = self.raster.read(under, nir=numbers)
        block = Window(row, col, height, width)
        # The kernel never reaches nodata, which was filled; validity uses a kernel without overshoot.
        layers = np.nan_to_num(fill_invalid(scale(self.radiometry, raw[:bands]), seen).astype(np.float32))
        more = raw if self.radiometry is not None else raw[bands:]
        if numbers:  # unknown near infrared stays NaN, also after warping
            layers = np.concatenate([layers, fill_invalid(more, seen).astype(np.float32)])
        warped = self._warp(layers, under, block, self.kernel)
        averaged = self.kernel == Resampling.average
        kernel = Resampling.average if averaged else Resampling.bilinear
        shown = self._warp(seen[None].astype(np.float32), under, block, kernel)
        valid = (shown[0] >= (0.5 if averaged else 0.999)) & np.isfinite(warped[:bands]).all(axis=0)
        own_numbers = _as_numbers(warped[-len(raw) :], self._numbers_kind) if numbers else None
        if self._kind == np.uint8:
            return np.rint(np.clip(warped[:bands], 0, 255)).astype(np.uint8), valid, own_numbers
        return np.nan_to_num(warped[:bands]), valid, own_numbers

    def _under(self, block: Window) -> Window | None:
        """The source pixels under a block plus MARGIN, inside the file; None if there are none."""
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
        """Resampling method: bilinear up to 2:1, average above."""
        return Resampling.bilinear if self.ratio <= BILINEAR_TO else Resampling.average

    def _warp(self, layers: FloatArray, under: Window, block: Window, kernel: Resampling) -> FloatArray:
        """Resample layers (n, h, w) of source pixels to a block; float32, 0 outside the source."""
        out = np.zeros((len(layers), block.height, block.width), np.float32)
        with rasterio.Env(GDAL_NUM_THREADS=1):
            reproject(
                layers,
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


def _as_numbers(warped: FloatArray, kind: np.dtype[Any]) -> ImageArray:
    """Warped values in a dtype; rounded and clipped to its range if it is an integer type."""
    if kind.kind == "f":
        return warped.astype(kind, copy=False)
    limits = np.iinfo(kind)
    return np.asarray(np.rint(np.clip(np.nan_to_num(warped), limits.min, limits.max)).astype(kind))


def _pieces(start: int, stop: int, piece: int, offset: int) -> Iterator[tuple[int, int]]:
    """Split [start, stop) where ``x + offset`` is a multiple of ``piece``."""
    while start < stop:
        end = min(((start + offset) // piece + 1) * piece - offset, stop)
        yield start, end
        start = end
