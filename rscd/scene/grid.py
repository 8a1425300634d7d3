"""The pixel grid of a raster: from pixels to coordinates and back, ground sample distance, names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyproj
from rasterio.crs import CRS

from rscd.types import DoubleArray, Grid

Transform = tuple[float, float, float, float, float, float]

TOLERANCE_PX = 0.01
"""Grids whose corners lie closer than this are one grid."""


def grid_of(dataset: Any) -> Grid:  # noqa: ANN401 - rasterio has no types
    """The grid of an open raster; its CRS must be set."""
    return Grid(dataset.crs.to_wkt(), tuple(dataset.transform)[:6], dataset.width, dataset.height)


def place(transform: Transform, cols: Any, rows: Any) -> tuple[DoubleArray, DoubleArray]:  # noqa: ANN401
    """Coordinates x, y of pixel coordinates (of corners: the centre of the first pixel is 0.5, 0.5)."""
    a, b, c, d, e, f = transform
    cols, rows = np.asarray(cols, float), np.asarray(rows, float)
    return a * cols + b * rows + c, d * cols + e * rows + f


def pixel(transform: Transform, x: Any, y: Any) -> tuple[DoubleArray, DoubleArray]:  # noqa: ANN401
    """Pixel coordinates, columns and rows, of coordinates x, y: the inverse of ``place``."""
    a, b, c, d, e, f = transform
    x, y = np.asarray(x, float) - c, np.asarray(y, float) - f
    determinant = a * e - b * d
    with np.errstate(invalid="ignore"):
        return (e * x - b * y) / determinant, (a * y - d * x) / determinant


def moved(transform: Transform, row: float, col: float) -> Transform:
    """The transform of a grid whose first pixel is this one's (row, col)."""
    a, b, c, d, e, f = transform
    return a, b, a * col + b * row + c, d, e, d * col + e * row + f


def gsd_m(grid: Grid) -> float:
    """Ground sample distance in m: root of the geodesic sides of the scene's centre pixel multiplied."""
    crs = pyproj.CRS.from_wkt(grid.crs)
    geodetic = crs.geodetic_crs
    assert geodetic is not None
    to_lonlat = pyproj.Transformer.from_crs(crs, geodetic, always_xy=True)
    a, b, c, d, e, f = grid.transform
    cols = grid.width / 2 + np.array([-0.5, 0.5, 0, 0])
    rows = grid.height / 2 + np.array([0, 0, -0.5, 0.5])
    lon, lat = to_lonlat.transform(a * cols + b * rows + c, d * cols + e * rows + f)
    geod = geodetic.get_geod()
    assert geod is not None
    _, _, sides = geod.inv(lon[::2], lat[::2], lon[1::2], lat[1::2])
    return math.sqrt(sides[0] * sides[1])


def name_of(grid: Grid) -> str:
    """Short name of the grid's CRS, such as ``EPSG:32614``."""
    crs = CRS.from_wkt(grid.crs)
    epsg = crs.to_epsg()
    return f"EPSG:{epsg}" if epsg else str(pyproj.CRS.from_wkt(grid.crs).name)
