"""Where on earth a GeoTIFF lies, and of what day it is, from its header alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
import shapely

from rscd.errors import DataError
from rscd.scene.grid import grid_of, place
from rscd.scene.mapping import outline_of
from rscd.scene.raster import GDAL_OPTIONS, open_raster
from rscd.types import Grid

WGS84 = "EPSG:4326"
_IN_NAME = re.compile(r"(?<!\d)((?:19|20)\d{2})([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")


@dataclass(frozen=True)
class Footprint:
    """What a file's header tells of place and time."""

    outline: Any
    """Shapely polygon, longitude and latitude in degrees."""
    date: datetime | None
    """When it was taken, UTC: the TIFF's own tag, else a date in the file's name; None if neither tells."""


def read_footprint(path: Path, *, remote: bool = False) -> Footprint:
    """Read a GeoTIFF's outline and date.

    Args:
        path: The file.
        remote: Whether it may be an address.

    Raises:
        DataError: It cannot be opened, or lies nowhere on earth.
    """
    with rasterio.Env(**GDAL_OPTIONS), open_raster(path, remote=remote) as dataset:
        if dataset.crs is None or dataset.transform.is_identity:
            raise DataError("has no place on earth", path=path, remedy="georeference it first")
        return Footprint(
            outline_lonlat(grid_of(dataset), path), _date(dataset.tags().get("TIFFTAG_DATETIME"), path)
        )


def outline_lonlat(grid: Grid, path: Path) -> Any:  # noqa: ANN401 - shapely has no types
    """A grid's outline as a polygon of longitude and latitude, degrees.

    Raises:
        DataError: Its CRS does not lead there.
    """
    way = pyproj.Transformer.from_crs(grid.crs, WGS84, always_xy=True)
    points = np.stack(way.transform(*place(grid.transform, *outline_of(grid))), axis=1)
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) < 3:
        raise DataError("has no place on earth", path=path, remedy="check its CRS")
    return shapely.make_valid(shapely.Polygon(points))


def _date(tag: str | None, path: Path) -> datetime | None:
    try:
        return datetime.strptime((tag or "").strip(), "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        found = _IN_NAME.search(path.stem)
    if found is None:
        return None
    try:
        return datetime(int(found[1]), int(found[3]), int(found[4]), tzinfo=UTC)
    except ValueError:  # 31 February
        return None
