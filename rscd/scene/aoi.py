"""The area of interest: any vector file in any CRS, as a mask on the common grid."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from affine import Affine
from rasterio.features import geometry_mask
from shapely.errors import GEOSException

from rscd.core.errors import DataError
from rscd.core.grid import near_middle, outline_of, pixel, place
from rscd.core.paths import VECTORS, require_file
from rscd.core.types import BoolArray, Grid, Window

MARGIN = 64
"""Minimum margin of the common grid around the area, px."""
MOST_BYTES = 64 << 20
"""Maximum size of a vector file, bytes."""
MAGIC = (b"{", b"SQLite format 3\0", b"fgb", b"\0\0\x27\x0a")
"""First bytes of GeoJSON, GeoPackage, FlatGeobuf and Shapefile."""
XML_ROOT = re.compile(rb"(?:<\?.*?\?>|<!--.*?-->|\s)*<(?:\w+:)?(?:kml|FeatureCollection)\b", re.DOTALL)
"""Start of KML and GML."""
SQLITE = MAGIC[1]
REFERENCES = (b"<OGR", b"<GDAL", b"<mapml-", b"<!ENTITY", b"gdal_streamed_alg", b"VirtualOGR")
"""Content that makes GDAL follow references to other files or addresses, regardless of the suffix."""
REFERENCES_IN_SQLITE = (b"VirtualOGR",)
"""The same in a GeoPackage, whose metadata tables may contain the others as plain text."""
EDGE = 200
"""An outline gets points at every 1/EDGE of its extent before it is transformed to another CRS."""


@dataclass(frozen=True)
class Aoi:
    """The area in which changes are mapped."""

    shape: Any
    """Shapely polygon(s) in pixel coordinates of the full grid: x = column, y = row."""
    grid: Grid
    """The full grid."""

    def crop(self, margin: int = MARGIN) -> Window:
        """Its bounding box with a margin in px, inside the full grid."""
        left, top, right, bottom = self.shape.bounds
        row, col = max(0, int(np.floor(top)) - margin), max(0, int(np.floor(left)) - margin)
        row_stop = min(self.grid.height, int(np.ceil(bottom)) + margin)
        col_stop = min(self.grid.width, int(np.ceil(right)) + margin)
        return Window(row, col, row_stop - row, col_stop - col)

    def mask(self, window: Window) -> BoolArray:
        """Whether the centres of pixels (h, w) of a window of the full grid are inside."""
        return burn(self.shape, window)


def burn(shape: Any, window: Window) -> BoolArray:  # noqa: ANN401
    """Whether the centres of pixels (h, w) of a window are inside a shape in pixel coordinates."""
    transform = Affine.translation(window.col, window.row)
    frame = shapely.box(window.col, window.row, window.col_stop, window.row_stop)
    part = shapely.intersection(shape, frame)
    polygons = [p for p in shapely.get_parts(part) if p.geom_type == "Polygon" and not p.is_empty]
    if not polygons:
        return np.zeros((window.height, window.width), bool)
    return np.asarray(geometry_mask(polygons, (window.height, window.width), transform, invert=True))


def read_aoi(path: Path, grid: Grid) -> Aoi:
    """Read all polygons of a vector file's first layer, and transform them to pixel coordinates of a grid.

    Raises:
        DataError: There is no such file, it is not a vector file, or has no CRS, no polygon, or none on the grid.
    """
    frame = read_vectors(path, columns=[])
    try:
        inside = to_grid(frame.geometry.to_numpy(), frame.crs, grid)
    except DataError as error:
        raise DataError(error.problem, path=path, remedy=error.remedy) from error
    if inside is None:
        raise DataError("contains no polygon", path=path, remedy="draw the area as polygons")
    if not inside.area > 0:
        raise DataError("lies outside the scene", path=path, remedy="draw it where both dates are")
    return Aoi(inside, grid)


def read_vectors(path: Path, columns: list[str] | None = None, layer: str | None = None) -> Any:  # noqa: ANN401
    """A layer of a vector file, by default the first, as a geopandas frame.

    Raises:
        DataError: There is no such file or layer, it is not a vector file, has no CRS, or refers to other files.
    """
    require_file(path, VECTORS)
    _check_content(path)
    refuse_views(path)
    import pyogrio  # takes a quarter of a second with pandas, not needed without an area

    pyogrio.set_gdal_config_options({"GML_DOWNLOAD_SCHEMA": "NO"})
    try:
        options = {"WRITE_GFS": "NO"} if _is_gml(path) else {}  # else GDAL writes a file next to it
        frame = pyogrio.read_dataframe(path.absolute(), layer=layer, columns=columns, **options)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, GEOSException, ValueError) as error:
        raise DataError(f"cannot be read as a vector file: {error}", path=path, remedy="use GeoJSON") from error
    if frame.crs is None:
        raise DataError("has no CRS", path=path, remedy="assign one, e.g. ogr2ogr -a_srs EPSG:CODE OUT IN")
    return frame


def _is_gml(path: Path) -> bool:
    with path.open("rb") as file:
        start = XML_ROOT.match(file.read(1 << 16).lstrip(b"\xef\xbb\xbf \t\r\n"))
    return start is not None and start[0].endswith(b"FeatureCollection")


def refuse_views(path: Path) -> None:
    """Refuse a GeoPackage with a layer that is a view: it computes its content, possibly without end.

    Raises:
        DataError: It has such a layer.
    """
    with path.open("rb") as file:
        if file.read(len(SQLITE)) != SQLITE:
            return
    query = "SELECT name FROM sqlite_master WHERE type = 'view' AND name IN (SELECT table_name FROM gpkg_contents)"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            found = database.execute(query).fetchone()
    except sqlite3.Error:
        return  # the reader reports it
    if found is not None:
        remedy = "write it as a table: ogr2ogr OUT.gpkg IN.gpkg"
        raise DataError(f"layer {found[0]} is a view", path=path, remedy=remedy)


def to_grid(geometries: Any, crs: Any, grid: Grid) -> Any | None:  # noqa: ANN401
    """All polygons as one shape in pixel coordinates of a grid, clipped to its extent; None if there are none."""
    parts = shapely.get_parts(geometries)
    shapes = [part for part in parts if part.geom_type == "Polygon" and not part.is_empty]
    if not shapes:
        return None
    if not np.isfinite(shapely.bounds(shapes)).all():
        raise DataError("a polygon has coordinates that are not numbers", remedy="draw it again, or remove it")
    outline = shapely.make_valid(shapely.union_all([shapely.make_valid(s) for s in shapes]))
    return shapely.intersection(_in_pixels(outline, crs, grid), shapely.box(0, 0, grid.width, grid.height))


def _check_content(path: Path) -> None:
    """Refuse files that only refer to other files or addresses, and files that are too large for an outline.

    Raises:
        DataError: It is such a file.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    start = content[: 1 << 16].lstrip(b"\xef\xbb\xbf \t\r\n")
    named = [m for m in (REFERENCES_IN_SQLITE if start.startswith(SQLITE) else REFERENCES) if m in content]
    known = start.startswith(MAGIC) or XML_ROOT.match(start)
    wrong = "" if known else "is not a vector file of a supported format"
    if len(content) > MOST_BYTES:
        wrong = f"is larger than {MOST_BYTES >> 20} MB"
    elif named:
        wrong = f"refers to other files ({named[0].decode()})"
    elif "!" in str(path.absolute()):
        wrong = "has a '!' in its path"
    if wrong:
        remedy = "give a plain GeoJSON, GeoPackage, FlatGeobuf, Shapefile, KML or GML file"
        raise DataError(wrong, path=path, remedy=remedy)


def _in_pixels(shape: Any, crs: Any, grid: Grid) -> Any:  # noqa: ANN401
    """A shape in pixel coordinates of a grid, without parts outside the valid area of the grid's CRS."""
    left, bottom, right, top = shape.bounds
    shape = shapely.segmentize(shape, max(right - left, top - bottom) / EDGE)
    way = pyproj.Transformer.from_crs(crs, grid.crs, always_xy=True)

    def to_pixels(xy: Any) -> Any:  # noqa: ANN401
        x, y = way.transform(xy[:, 0], xy[:, 1])
        return np.stack(pixel(grid.transform, near_middle(np.asarray(x), grid), y), axis=1)

    if not np.isfinite(to_pixels(shapely.get_coordinates(shape))).all():
        x, y = place(grid.transform, *outline_of(grid))
        around = way.transform(x, y, direction="INVERSE")
        reach = shapely.convex_hull(shapely.multipoints(np.stack(around, axis=1)))
        shape = shapely.intersection(shape, reach.buffer(0.1 * np.sqrt(reach.area)))
    return shapely.make_valid(shapely.transform(shape, to_pixels))
