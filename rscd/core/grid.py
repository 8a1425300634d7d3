"""The pixel grid of a raster: from pixels to coordinates and back, ground sample distance, names."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from affine import Affine
from rasterio.crs import CRS

from rscd.core.errors import DataError
from rscd.core.types import DoubleArray, Grid

Transform = tuple[float, float, float, float, float, float]

EARTH_M = (6.3e6, 6.45e6)
"""Equatorial radii of the ellipsoids that are used for the earth lie between these, m."""
LEAST_SINE = 1e-6
"""Sine of the angle between a grid's axes from which it has an area."""
TOLERANCE_PX = 0.01
"""Grids whose corners lie closer than this are one grid."""


def grid_of(dataset: Any) -> Grid:  # noqa: ANN401 - rasterio has no types
    """The grid of an open raster; its CRS must be set."""
    return Grid(dataset.crs.to_wkt(), tuple(dataset.transform)[:6], dataset.width, dataset.height)


def place(transform: Transform, cols: Any, rows: Any) -> tuple[DoubleArray, DoubleArray]:  # noqa: ANN401
    """Coordinates x, y of pixel coordinates (of corners: the centre of the first pixel is 0.5, 0.5)."""
    matrix: Any = Affine(*transform)  # typed for numbers, and right for arrays
    x, y = matrix @ (np.asarray(cols, float), np.asarray(rows, float))
    return x, y


def pixel(transform: Transform, x: Any, y: Any) -> tuple[DoubleArray, DoubleArray]:  # noqa: ANN401
    """Pixel coordinates, columns and rows, of coordinates x, y: the inverse of ``place``."""
    a, b, c, d, e, f = transform
    x, y = np.asarray(x, float) - c, np.asarray(y, float) - f
    determinant = a * e - b * d
    with np.errstate(invalid="ignore"):
        return (e * x - b * y) / determinant, (a * y - d * x) / determinant


def moved(transform: Transform, row: float, col: float) -> Transform:
    """The transform of a grid whose first pixel is this one's (row, col)."""
    there = Affine(*transform) @ Affine.translation(col, row)
    return there.a, there.b, there.c, there.d, there.e, there.f


def gsd_m(grid: Grid) -> float:
    """Ground sample distance in m: root of the geodesic sides of the scene's centre pixel multiplied."""
    crs = pyproj.CRS.from_wkt(grid.crs)
    geodetic = crs.geodetic_crs
    assert geodetic is not None
    to_lonlat = pyproj.Transformer.from_crs(crs, geodetic, always_xy=True)
    degrees = math.degrees(geodetic.axis_info[0].unit_conversion_factor)  # of a unit, which may be a grad
    cols = grid.width / 2 + np.array([-0.5, 0.5, 0, 0])
    rows = grid.height / 2 + np.array([0, 0, -0.5, 0.5])
    lon, lat = to_lonlat.transform(*place(grid.transform, cols, rows))
    geod = geodetic.get_geod()
    assert geod is not None
    lon, lat = np.asarray(lon) * degrees, np.asarray(lat) * degrees
    _, _, sides = geod.inv(lon[::2], lat[::2], lon[1::2], lat[1::2])
    return math.sqrt(sides[0] * sides[1])


def check_place(path: Path, transform: Any, crs: str) -> None:  # noqa: ANN401 - rasterio's
    """Refuse a grid that has no place on the earth's surface.

    Args:
        path: The file, for messages.
        transform: Its affine transform.
        crs: Its CRS as WKT.

    Raises:
        DataError: The transform says nothing or has no area; the CRS is not tied to the earth's surface.
    """
    if transform.is_identity:
        remedy = "georeference it: gdal_edit.py -a_srs EPSG:CODE -a_ullr LEFT TOP RIGHT BOTTOM FILE"
        raise DataError("has no geotransform: nothing says where it lies", path=path, remedy=remedy)
    across, down = math.hypot(transform.a, transform.d), math.hypot(transform.b, transform.e)
    area = abs(transform.determinant)
    if not math.isfinite(sum(transform)) or not area > LEAST_SINE * across * down:
        raise DataError("its transform has no area", path=path, remedy="georeference it again")
    system = pyproj.CRS.from_wkt(crs)
    remedy = "assign one that is: gdal_edit.py -a_srs EPSG:CODE FILE"
    if system.geodetic_crs is None or system.ellipsoid is None:
        raise DataError(f"CRS '{system.name}' is not tied to the earth", path=path, remedy=remedy)
    if system.is_geocentric:
        problem = f"CRS '{system.name}' is geocentric: it has no surface to lie on"
        raise DataError(problem, path=path, remedy="warp it to a map projection: gdalwarp -t_srs EPSG:CODE")
    radius = system.ellipsoid.semi_major_metre
    if not EARTH_M[0] < radius < EARTH_M[1]:
        problem = f"CRS '{system.name}' is of a body of {radius / 1000:,.0f} km radius, not of the earth"
        raise DataError(problem, path=path, remedy=remedy)


def name_of(grid: Grid) -> str:
    """Short name of the grid's CRS, such as ``EPSG:32614``."""
    crs = CRS.from_wkt(grid.crs)
    epsg = crs.to_epsg()
    return f"EPSG:{epsg}" if epsg else str(pyproj.CRS.from_wkt(grid.crs).name)
