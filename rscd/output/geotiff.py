"""GeoTIFFs written some rows at a time, and their overviews, computed from the same rows.

Each overview level is a separate GeoTIFF, half as large as the previous one, with the names that GDAL expects::

    p.tif  <-  p.tif.ovr  <-  p.tif.ovr.ovr  <-  ...  until a level fits in one block
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window as RasterWindow

from rscd.core.types import NOT_OBSERVABLE, SLAB, ByteArray, Grid

BLOCK = 512
"""Side of a tile in px."""


@contextmanager
def new_geotiff(path: Path, grid: Grid, *, bands: int, nodata: int | None = None) -> Iterator[Any]:
    """Open a new tiled uint8 GeoTIFF (ZSTD) on the grid for writing.

    GDAL's own threads stay off: with them a full disk raises nothing.
    """
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=grid.width,
        height=grid.height,
        count=bands,
        dtype="uint8",
        crs=CRS.from_wkt(grid.crs),
        transform=grid.affine,
        nodata=nodata,
        tiled=True,
        blockxsize=BLOCK,
        blockysize=BLOCK,
        compress="zstd",
        zstd_level=1,
        bigtiff="if_safer",
        interleave="pixel" if bands > 1 else "band",
    ) as dataset:
        yield dataset


def write_rows(dataset: Any, row: int, pixels: np.ndarray) -> None:  # noqa: ANN401
    """Write full rows (bands, rows, columns) starting at ``row``."""
    dataset.write(pixels, window=RasterWindow(0, row, pixels.shape[2], pixels.shape[1]))


def write_geotiff(
    path: Path, grid: Grid, strips: Iterable[np.ndarray], *, bands: int = 3, nodata: int | None = None
) -> None:
    """Write a complete uint8 GeoTIFF from consecutive strips (bands, rows, columns), from the top."""
    with new_geotiff(path, grid, bands=bands, nodata=nodata) as dataset:
        row = 0
        for strip in strips:
            write_rows(dataset, row, strip)
            row += strip.shape[1]
        assert row == grid.height


class Level:
    """Writer of one level, and of all coarser ones.

    Args:
        path: File to write.
        grid: Its grid.
        files: Stack that closes it, and the coarser ones.
    """

    def __init__(self, path: Path, grid: Grid, files: ExitStack) -> None:
        self.path, self._grid = path, grid
        self.dataset: Any = files.enter_context(new_geotiff(path, grid, bands=1, nodata=NOT_OBSERVABLE))
        self._strip: ByteArray = np.empty((min(BLOCK, grid.height), grid.width), np.uint8)
        self._held = self._written = 0
        self.digests: list[str] = []
        """Digest of each written strip, from the top."""
        self._coarser = None
        if max(grid.shape) > BLOCK:
            self._coarser = Level(path.with_name(path.name + ".ovr"), halved_grid(grid), files)

    def add(self, rows: ByteArray) -> None:
        """Add the next rows (n, columns); they are written in strips of BLOCK rows, the last one shorter."""
        taken = 0
        while taken < len(rows):
            some = rows[taken : taken + len(self._strip) - self._held]
            self._strip[self._held : self._held + len(some)] = some
            self._held, taken = self._held + len(some), taken + len(some)
            if self._held == len(self._strip) or self._written + self._held == self._grid.height:
                self._flush()

    def _flush(self) -> None:
        """Write the buffered rows, here and halved to the coarser level."""
        strip = self._strip[: self._held]
        write_rows(self.dataset, self._written, strip[None])
        self.digests.append(digest_of(strip))
        self._written, self._held = self._written + len(strip), 0
        if self._coarser is not None:
            for row in range(0, len(strip), SLAB):  # in slabs, because means need several times the memory
                self._coarser.add(halved(strip[row : row + SLAB]))

    @property
    def complete(self) -> bool:
        """Whether all rows have been added."""
        return self._written == self._grid.height

    def levels(self) -> Iterator[Level]:
        """This level and the coarser ones."""
        yield self
        if self._coarser is not None:
            yield from self._coarser.levels()


def digest_of(strip: ByteArray) -> str:
    """Hex sha256 of the values of a strip."""
    return hashlib.sha256(np.ascontiguousarray(strip).data).hexdigest()


def halved_grid(grid: Grid) -> Grid:
    """The grid with twice the pixel size and the same corner; it also covers a last odd row and column."""
    height, width = -(-grid.height // 2), -(-grid.width // 2)
    return replace(grid, transform=tuple(grid.affine @ Affine.scale(2))[:6], height=height, width=width)


def halved(values: ByteArray) -> ByteArray:
    """Means of the observable ones of 2 x 2 values, halves rounded up; 255 if none is observable."""
    values = np.pad(values, ((0, values.shape[0] % 2), (0, values.shape[1] % 2)), mode="edge")
    four = [values[i::2, j::2] for i in (0, 1) for j in (0, 1)]
    seen = None
    if values.max(initial=0) == NOT_OBSERVABLE:
        shown = [part != NOT_OBSERVABLE for part in four]
        seen = np.sum(shown, axis=0, dtype=np.uint16)
        four = [part * there for part, there in zip(four, shown, strict=True)]
    total = four[0].astype(np.uint16)
    for part in four[1:]:
        total += part
    if seen is None:
        return np.asarray((total + 2) >> 2, dtype=np.uint8)
    mean = (2 * total + seen) // np.maximum(2 * seen, 1)
    return np.where(seen > 0, mean, NOT_OBSERVABLE).astype(np.uint8)
