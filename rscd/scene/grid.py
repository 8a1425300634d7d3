"""The pixel grid of a raster: ground sample distance, and how two grids differ."""

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


def corners(grid: Grid) -> np.ndarray:
    """Corner coordinates in CRS units, shape (4, 2): top left, top right, bottom right, bottom left."""
    a, b, c, d, e, f = grid.transform
    cols = np.array([0, grid.width, grid.width, 0], float)
    rows = np.array([0, 0, grid.height, grid.height], float)
    return np.stack([a * cols + b * rows + c, d * cols + e * rows + f], axis=1)


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


def difference(first: Grid, second: Grid) -> str | None:
    """Say how the second grid differs from the first, measured; None where they are one grid."""
    crs = CRS.from_wkt(first.crs), CRS.from_wkt(second.crs)
    if crs[0] != crs[1]:
        return f"CRS is {name_of(second)}, not {name_of(first)}"
    if first.shape != second.shape:
        return f"size is {second.width} x {second.height} px, not {first.width} x {first.height}"
    a, b, _, d, e, _ = first.transform
    to_pixels = np.linalg.inv(np.array([[a, b], [d, e]]))
    off = (corners(second) - corners(first)) @ to_pixels.T
    worst = float(np.abs(off).max())
    if worst > TOLERANCE_PX:
        return f"corners lie up to {worst:.3g} px off (top left by {off[0, 0]:.3g} columns, {off[0, 1]:.3g} rows)"
    return None


def name_of(grid: Grid) -> str:
    """Short name of the grid's CRS, such as ``EPSG:32614``."""
    crs = CRS.from_wkt(grid.crs)
    epsg = crs.to_epsg()
    return f"EPSG:{epsg}" if epsg else str(pyproj.CRS.from_wkt(grid.crs).name)


def warp_command(grid: Grid, source: object) -> str:
    """The gdalwarp line that puts ``source`` on this north-up grid."""
    points = corners(grid)
    (left, bottom), (right, top) = points.min(0), points.max(0)
    extent = " ".join(f"{v:.10g}" for v in (left, bottom, right, top))
    srs = f"-t_srs {name_of(grid)} " if name_of(grid).startswith("EPSG") else ""
    return f"gdalwarp {srs}-te {extent} -ts {grid.width} {grid.height} -r bilinear '{source}' aligned.tif"
