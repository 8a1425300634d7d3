"""Opening the pair: two GeoTIFFs on one grid, or a refusal with what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import RasterioError, RasterioIOError

from rscd.errors import DataError, UsageError
from rscd.scene.grid import difference, grid_of, warp_command
from rscd.types import Grid

GDAL_OPTIONS = {
    "GDAL_CACHEMAX": 64,  # MB, for the whole process: GDAL's default is a share of the machine
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # sidecars of an input may say anything
    "GDAL_PAM_ENABLED": "NO",  # nor are any written
}


@dataclass(frozen=True)
class Pair:
    """Two open rasters on one grid. Each handle is for one thread at a time."""

    before: Any
    """rasterio dataset of the earlier date."""
    after: Any
    """rasterio dataset of the later date."""
    grid: Grid
    """The grid of both."""
    bands: tuple[int, ...]
    """Band numbers to read from both, from 1."""


@contextmanager
def open_pair(before: Path, after: Path, bands: tuple[int, ...]) -> Iterator[Pair]:
    """Open both dates and check that they can be compared pixel by pixel.

    Args:
        before: GeoTIFF of the earlier date.
        after: GeoTIFF of the later date.
        bands: Bands of both files, from 1.

    Raises:
        DataError: A file is missing or not a GeoTIFF, has no CRS, too few bands or another dtype than uint8, or
            the two are not on one grid.
        UsageError: ``bands`` has a number below 1.
    """
    if min(bands) < 1:
        raise UsageError(f"--bands {','.join(map(str, bands))}", remedy="bands count from 1")
    with (
        rasterio.Env(**GDAL_OPTIONS),
        open_raster(before) as first,
        open_raster(after) as second,
    ):
        for path, dataset in ((before, first), (after, second)):
            _check(path, dataset, bands)
        grid = grid_of(first)
        told = difference(grid, grid_of(second))
        if told:
            remedy = f"put it on one grid first, e.g. {warp_command(grid, after)}"
            raise DataError(f"not on the grid of {before}: {told}", path=after, remedy=remedy)
        yield Pair(first, second, grid, bands)


@contextmanager
def open_raster(path: Path) -> Iterator[Any]:
    """Open a GeoTIFF, and nothing else that GDAL might make of the file.

    Raises:
        DataError: It is missing, or not a GeoTIFF.
    """
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "no such file"
        raise DataError(state, path=path, remedy="give the path of a GeoTIFF")
    try:
        dataset = rasterio.open(path, driver="GTiff")
    except (RasterioIOError, RasterioError) as error:
        remedy = "convert it: gdal_translate -of GTiff IN OUT.tif"
        raise DataError("cannot be opened as a GeoTIFF", path=path, remedy=remedy) from error
    with dataset:
        yield dataset


def _check(path: Path, dataset: Any, bands: tuple[int, ...]) -> None:  # noqa: ANN401
    """Refuse what cannot be read as this many 8-bit bands with a place on Earth."""
    if max(bands) > dataset.count:
        asked = ",".join(map(str, bands))
        problem = f"has {dataset.count} band{'s' * (dataset.count > 1)}, and bands {asked} are asked for"
        raise DataError(problem, path=path, remedy="name bands that it has with --bands, or use another file")
    if dataset.crs is None:
        raise DataError("has no CRS", path=path, remedy="assign it: gdal_edit.py -a_srs EPSG:CODE FILE")
    dtypes = {dataset.dtypes[b - 1] for b in bands}
    if dtypes != {"uint8"}:
        problem = f"pixels are {', '.join(sorted(dtypes))}, and the model takes uint8"
        remedy = "scale it: gdal_translate -ot Byte -scale LOW HIGH 1 255 IN OUT.tif, alike for both dates"
        raise DataError(problem, path=path, remedy=remedy)
