"""Pixel grids of rasters: pixels to coordinates and back, ground sample distance; position of one grid on another.

Pixel coordinates refer to corners: the centre of the top left pixel is (0.5, 0.5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from affine import Affine
from rasterio.crs import CRS

from rscd.core.errors import DataError
from rscd.core.types import DoubleArray, Grid, Window

Transform = tuple[float, float, float, float, float, float]

EARTH_M = (6.3e6, 6.45e6)
"""Limits of the equatorial radii of the earth's ellipsoids, m."""
LEAST_SINE = 1e-6
"""Minimum sine of the angle between a grid's axes."""
TOLERANCE_PX = 0.01
"""Maximum distance of corners of grids that are considered equal."""


def grid_of(dataset: Any) -> Grid:  # noqa: ANN401 - rasterio has no types
    """The grid of an open raster; its CRS must be set."""
    return Grid(dataset.crs.to_wkt(), tuple(dataset.transform)[:6], dataset.width, dataset.height)


def place(transform: Transform, cols: Any, rows: Any) -> tuple[DoubleArray, DoubleArray]:  # noqa: ANN401
    """Coordinates x, y of pixel coordinates (at corners: the centre of the first pixel is 0.5, 0.5)."""
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
    """Ground sample distance in m: square root of the product of the centre pixel's geodesic sides."""
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
    """Refuse a grid that is not on the earth's surface.

    Args:
        path: The file, for messages.
        transform: Its affine transform.
        crs: Its CRS as WKT.

    Raises:
        DataError: The transform is missing or has no area, or the CRS is not tied to the earth's surface.
    """
    if transform.is_identity:
        remedy = "georeference it: gdal_edit.py -a_srs EPSG:CODE -a_ullr LEFT TOP RIGHT BOTTOM FILE"
        raise DataError("has no geotransform: its location is unknown", path=path, remedy=remedy)
    across, down = math.hypot(transform.a, transform.d), math.hypot(transform.b, transform.e)
    area = abs(transform.determinant)
    if not math.isfinite(sum(transform)) or not area > LEAST_SINE * across * down:
        raise DataError("its transform has no area", path=path, remedy="georeference it again")
    system = pyproj.CRS.from_wkt(crs)
    remedy = "assign one that is: gdal_edit.py -a_srs EPSG:CODE FILE"
    if system.geodetic_crs is None or system.ellipsoid is None:
        raise DataError(f"CRS '{system.name}' is not tied to the earth", path=path, remedy=remedy)
    if system.is_geocentric:
        problem = f"CRS '{system.name}' is geocentric: it is three-dimensional"
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


EDGE_POINTS = 65
"""Points along each edge of a grid when its outline is transformed to another CRS."""


@dataclass(frozen=True)
class Overlap:
    """The part of the common grid that the other date covers."""

    share: float
    """Share of the common grid's pixels, 0..1."""
    window: Window
    """Bounding box in pixels of the common grid."""


@dataclass(frozen=True)
class Mapping:
    """Transformation between pixels of the common grid and pixels of the other file's grid."""

    grid: Grid
    """The common grid."""
    source: Grid
    """The other file's grid."""

    def to_source(self, cols: DoubleArray, rows: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
        """Columns and rows in the source for those of the common grid; infinite if there are none."""
        return self._carry(cols, rows, self.grid, self.source)

    def to_grid(self, cols: DoubleArray, rows: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
        """Columns and rows in the common grid for those of the source; infinite if there are none."""
        return self._carry(cols, rows, self.source, self.grid)

    def _carry(
        self, cols: DoubleArray, rows: DoubleArray, start: Grid, end: Grid
    ) -> tuple[DoubleArray, DoubleArray]:
        x, y = place(start.transform, cols, rows)
        if not self.same_crs:
            x, y = self.transformer(start, end).transform(x, y)
            x = near_middle(x, end)
        return pixel(end.transform, x, y)

    @cached_property
    def same_crs(self) -> bool:
        """Whether both grids have the same CRS."""
        one, other = pyproj.CRS.from_wkt(self.grid.crs), pyproj.CRS.from_wkt(self.source.crs)
        return bool(one.equals(other, ignore_axis_order=True))

    @staticmethod
    def transformer(start: Grid, end: Grid) -> pyproj.Transformer:
        """From one grid's CRS to another's."""
        return pyproj.Transformer.from_crs(start.crs, end.crs, always_xy=True)

    @cached_property
    def offset(self) -> tuple[int, int] | None:
        """Rows and columns to add to reach the source's pixels, if both grids have the same pixels; else None."""
        if not self.same_crs:
            return None
        size = max(self.grid.width, self.source.width), max(self.grid.height, self.source.height)
        cols, rows = np.array([0.0, size[0], 0.0]), np.array([0.0, 0.0, size[1]])
        there = self.to_source(cols, rows)
        off = there[1] - rows, there[0] - cols
        whole = round(float(off[0][0])), round(float(off[1][0]))
        worst = max(np.abs(off[0] - whole[0]).max(), np.abs(off[1] - whole[1]).max())
        return whole if worst <= TOLERANCE_PX else None

    @cached_property
    def ratio(self) -> float:
        """Source pixels per pixel of the common grid, at the centre of the overlap; below 1 is coarser."""
        box = self.overlap.window
        row, col = box.row + box.height / 2, box.col + box.width / 2
        cols, rows = self.to_source(col + np.array([-0.5, 0.5, 0, 0]), row + np.array([0, 0, -0.5, 0.5]))
        across, down = (cols[1] - cols[0], rows[1] - rows[0]), (cols[3] - cols[2], rows[3] - rows[2])
        return float(np.sqrt(abs(across[0] * down[1] - down[0] * across[1])))

    @cached_property
    def overlap(self) -> Overlap:
        """The part of the common grid that the source covers; share 0 if they do not overlap."""
        cols, rows = self.to_grid(*outline_of(self.source))
        sound = np.isfinite(cols) & np.isfinite(rows)
        frame = shapely.box(0, 0, self.grid.width, self.grid.height)
        if sound.sum() < 4:
            return Overlap(0.0, Window(0, 0, 0, 0))
        outline = shapely.make_valid(shapely.Polygon(np.stack([cols[sound], rows[sound]], axis=1)))
        common = shapely.intersection(outline, frame)
        if not common.area > 0:
            return Overlap(0.0, Window(0, 0, 0, 0))
        left, top, right, bottom = common.bounds
        row, col = int(top + 1e-6), int(left + 1e-6)
        height, width = int(np.ceil(bottom - 1e-6)) - row, int(np.ceil(right - 1e-6)) - col
        return Overlap(common.area / frame.area, Window(row, col, height, width))


def outline_of(grid: Grid) -> tuple[DoubleArray, DoubleArray]:
    """Points around a grid's border, in its pixels, clockwise."""
    t = np.linspace(0, 1, EDGE_POINTS)[:-1]
    cols = np.concatenate([t, np.ones_like(t), 1 - t, np.zeros_like(t)]) * grid.width
    rows = np.concatenate([np.zeros_like(t), t, np.ones_like(t), 1 - t]) * grid.height
    return cols, rows


def _middle(grid: Grid) -> float:
    return float(place(grid.transform, grid.width / 2, grid.height / 2)[0])


def _turn(grid: Grid) -> float | None:
    """360 degrees in the units of a geographic grid; None for a projected grid."""
    crs = pyproj.CRS.from_wkt(grid.crs)
    if not crs.is_geographic:
        return None
    return float(2 * np.pi / crs.axis_info[0].unit_conversion_factor)


def near_middle(x: DoubleArray, grid: Grid) -> DoubleArray:
    """Longitudes wrapped to within half a turn of a geographic grid's centre; others unchanged."""
    turn = _turn(grid)
    if turn is None:
        return np.asarray(x)
    with np.errstate(invalid="ignore"):
        return np.asarray(x - turn * np.round((x - _middle(grid)) / turn))


def unwrapped(grid: Grid, source: Grid) -> Grid:
    """The source's grid, with its longitudes shifted by whole turns to match the common grid's.

    A scene at 179.9 to 180.1 degrees and one at -180.1 to -179.9 are at the same place. Whole turns are removed
    here, so that warping need not handle them.

    Raises:
        DataError: Some points are a turn apart from others: the source would have to be cut at the antimeridian.
    """
    turn = _turn(source)
    mapping = Mapping(grid, source)
    if turn is None:
        return source
    cols, rows = np.meshgrid(np.linspace(0, grid.width, 33), np.linspace(0, grid.height, 33))
    x, y = place(grid.transform, cols.ravel(), rows.ravel())
    if not mapping.same_crs:
        x, y = mapping.transformer(grid, source).transform(x, y)
    near = x - turn * np.round((x - _middle(source)) / turn)
    there = pixel(source.transform, near, y)
    inside = (there[0] >= 0) & (there[0] <= source.width) & (there[1] >= 0) & (there[1] <= source.height)
    turns = np.unique(np.round((x - near)[inside & np.isfinite(x)] / turn))
    if len(turns) > 1:
        remedy = f"put both dates into a projected CRS first, e.g. gdalwarp -t_srs {name_of(grid)} IN OUT.tif"
        raise DataError("the antimeridian cuts the other date on the common grid", remedy=remedy)
    if len(turns) == 0 or turns[0] == 0:
        return source
    turned = Affine.translation(turn * float(turns[0]), 0) @ source.affine
    return replace(source, transform=tuple(turned)[:6])
