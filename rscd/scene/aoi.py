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
"""Pixels around the area that belong to the common grid, at least."""
MOST_BYTES = 64 << 20
"""A vector file larger than this is refused."""
MAGIC = (b"{", b"SQLite format 3\0", b"fgb", b"\0\0\x27\x0a")
"""How GeoJSON, GeoPackage, FlatGeobuf and Shapefile start."""
XML_ROOT = re.compile(rb"(?:<\?.*?\?>|<!--.*?-->|\s)*<(?:\w+:)?(?:kml|FeatureCollection)\b", re.DOTALL)
"""How KML and GML start."""
SQLITE = MAGIC[1]
REFERENCES = (b"<OGR", b"<GDAL", b"<mapml-", b"<!ENTITY", b"gdal_streamed_alg", b"VirtualOGR")
"""What makes GDAL follow a file to other files or to addresses, regardless of its suffix."""
REFERENCES_IN_SQLITE = (b"VirtualOGR",)
"""What does so in a GeoPackage, whose metadata tables may hold the others as mere text."""
EDGE = 200
"""An outline is given points at every so-many-th of its extent before it is carried to another CRS."""


@dataclass(frozen=True)
class Aoi:
    """Where changes are wanted."""

    shape: Any
    """Shapely polygon(s) in pixel coordinates of the full grid: x = column, y = row."""
    grid: Grid
    """The full grid."""

    def crop(self, margin: int = MARGIN) -> Window:
        """Its bounding box and so many px around it, inside the full grid."""
        left, top, right, bottom = self.shape.bounds
        row, col = max(0, int(np.floor(top)) - margin), max(0, int(np.floor(left)) - margin)
        row_stop = min(self.grid.height, int(np.ceil(bottom)) + margin)
        col_stop = min(self.grid.width, int(np.ceil(right)) + margin)
        return Window(row, col, row_stop - row, col_stop - col)

    def mask(self, window: Window) -> BoolArray:
        """Whether pixels (h, w) of a window of the full grid have their centre inside."""
        return burn(self.shape, window)


def burn(shape: Any, window: Window) -> BoolArray:  # noqa: ANN401
    """Whether pixels (h, w) of a window of a grid have their centre inside a shape in pixel coordinates."""
    transform = Affine.translation(window.col, window.row)
    frame = shapely.box(window.col, window.row, window.col_stop, window.row_stop)
    part = shapely.intersection(shape, frame)
    polygons = [p for p in shapely.get_parts(part) if p.geom_type == "Polygon" and not p.is_empty]
    if not polygons:
        return np.zeros((window.height, window.width), bool)
    return np.asarray(geometry_mask(polygons, (window.height, window.width), transform, invert=True))


def read_aoi(path: Path, grid: Grid) -> Aoi:
    """Read all polygons of a vector file's first layer and carry them to pixels of a grid.

    Raises:
        DataError: No such file, no vector file, no CRS, no polygon in it, or none on the grid.
    """
    frame = read_vectors(path, columns=[])
    try:
        inside = to_grid(frame.geometry.to_numpy(), frame.crs, grid)
    except DataError as error:
        raise DataError(error.problem, path=path, remedy=error.remedy) from error
    if inside is None:
        raise DataError("holds no polygon", path=path, remedy="draw the area as polygons")
    if not inside.area > 0:
        raise DataError("lies outside the scene", path=path, remedy="draw it where both dates are")
    return Aoi(inside, grid)


def read_vectors(path: Path, columns: list[str] | None = None, layer: str | None = None) -> Any:  # noqa: ANN401
    """A layer of a vector file, the first by default, as a geopandas frame.

    Raises:
        DataError: No such file, no vector file, no such layer, no CRS, or it points elsewhere.
    """
    require_file(path, VECTORS)
    _check_content(path)
    refuse_views(path)
    import pyogrio  # with pandas a quarter of a second, which a run without an area does not need

    pyogrio.set_gdal_config_options({"GML_DOWNLOAD_SCHEMA": "NO"})
    try:
        options = {"WRITE_GFS": "NO"} if _is_gml(path) else {}  # GDAL would leave a file beside it
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
    """Refuse a GeoPackage with a layer that is a view: it computes what it holds, perhaps without end.

    Raises:
        DataError: It has one.
    """
    with path.open("rb") as file:
        if file.read(len(SQLITE)) != SQLITE:
            return
    query = "SELECT name FROM sqlite_master WHERE type = 'view' AND name IN (SELECT table_name FROM gpkg_contents)"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            found = database.execute(query).fetchone()
    except sqlite3.Error:
        return  # which the reader says in its own words
    if found is not None:
        remedy = "write it as a table: ogr2ogr OUT.gpkg IN.gpkg"
        raise DataError(f"layer {found[0]} is a view", path=path, remedy=remedy)


def to_grid(geometries: Any, crs: Any, grid: Grid) -> Any | None:  # noqa: ANN401
    """All polygons as one shape in pixel coordinates of a grid, cut at its frame; None where there are none."""
    parts = shapely.get_parts(geometries)
    shapes = [part for part in parts if part.geom_type == "Polygon" and not part.is_empty]
    if not shapes:
        return None
    if not np.isfinite(shapely.bounds(shapes)).all():
        raise DataError("a polygon has coordinates that are no numbers", remedy="draw it again, or take it out")
    outline = shapely.make_valid(shapely.union_all([shapely.make_valid(s) for s in shapes]))
    return shapely.intersection(_in_pixels(outline, crs, grid), shapely.box(0, 0, grid.width, grid.height))


def _check_content(path: Path) -> None:
    """Refuse what only points elsewhere, to files or to addresses, and what is too large to be an outline.

    Raises:
        DataError: As said.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    start = content[: 1 << 16].lstrip(b"\xef\xbb\xbf \t\r\n")
    named = [m for m in (REFERENCES_IN_SQLITE if start.startswith(SQLITE) else REFERENCES) if m in content]
    known = start.startswith(MAGIC) or XML_ROOT.match(start)
    wrong = "" if known else "is no vector file of a format that is read here"
    if len(content) > MOST_BYTES:
        wrong = f"is larger than {MOST_BYTES >> 20} MB"
    elif named:
        wrong = f"names other files ({named[0].decode()})"
    elif "!" in str(path.absolute()):
        wrong = "has a '!' in its path"
    if wrong:
        remedy = "give a plain GeoJSON, GeoPackage, FlatGeobuf, Shapefile, KML or GML file"
        raise DataError(wrong, path=path, remedy=remedy)


def _in_pixels(shape: Any, crs: Any, grid: Grid) -> Any:  # noqa: ANN401
    """A shape in pixel coordinates of a grid; what lies beyond the reach of the grid's CRS is left out."""
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
