"""Writing GeoTIFFs a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window as RasterWindow

from rscd.types import Grid

BLOCK = 512
"""Side of a tile in px."""
SLAB = 64
"""Rows that are worked on at once where that takes several times their own memory; even."""


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
        transform=Affine(*grid.transform),
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
    """Write a whole uint8 GeoTIFF from strips (bands, rows, columns) that follow one another downwards."""
    with new_geotiff(path, grid, bands=bands, nodata=nodata) as dataset:
        row = 0
        for strip in strips:
            write_rows(dataset, row, strip)
            row += strip.shape[1]
        assert row == grid.height
