"""Information in image headers: sensor, date, footprint; and outlines for GeoJSON."""

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
from shapely.geometry.polygon import orient

from rscd.core.errors import DataError
from rscd.core.grid import grid_of, outline_of, place
from rscd.core.types import Grid
from rscd.scene.raster import GDAL_OPTIONS, open_raster

SENSORS = re.compile(
    r"\b(sentinel[-_ ]?[1-6][abc]?|landsat[-_ ]?[1-9]?|modis|viirs|planetscope|rapideye|worldview[-_ ]?[1-4]?"
    r"|geoeye|quickbird|ikonos|pl[eé]iades|spot[-_ ]?[1-7]|kompsat|gaofen|superview|naip|terrasar|radarsat"
    r"|palsar|s1[abc]|s2[abc]|s2[abc]?_msi|sar)\b",
    re.IGNORECASE,
)
DATA_SETS = {"OSCD": "sentinel2"}
"""Training data -> its sensor, in lower case letters and digits."""
KEYS = re.compile("sensor|satellite|mission|platform|spacecraft|instrument|description|software|title|source", re.I)
"""Tags that may name a sensor."""
STAMP = re.compile(r"(\d{4})[:/-](\d\d)[:/-](\d\d)(?!\d)(?:[ T](\d\d):(\d\d):(\d\d))?")
"""A date, with or without a time."""


def named_sensor(tags: dict[str, Any]) -> str:
    """The sensor that a GeoTIFF's tags name; empty if none is recognised.

    Args:
        tags: Name -> value.
    """
    for name, value in tags.items():
        found = SENSORS.search(str(value)) if KEYS.search(name) else None
        if found is not None:
            return found[0]
    return ""


def taken_at(tags: dict[str, Any]) -> datetime | None:
    """Acquisition time of an image from its tag TIFFTAG_DATETIME, in UTC; None if the tag has no date."""
    found = STAMP.match(str(tags.get("TIFFTAG_DATETIME", "")).strip())
    try:
        if found is None:
            return None
        year, month, day, hour, minute, second = map(int, found.groups("0"))
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:  # 31 February
        return None


def date_taken(tags: dict[str, Any]) -> str:
    """Day of a GeoTIFF's tag TIFFTAG_DATETIME, as 2024-05-31; empty if it has none."""
    taken = taken_at(tags)
    return taken.date().isoformat() if taken is not None else ""


def unseen(sensor: str, trained_on: str) -> bool:
    """Whether a model was not trained on a sensor, according to its contract.

    Args:
        sensor: Name of the sensor in the tags.
        trained_on: The contract's description of the training data.
    """
    plain = re.sub(r"[^a-z0-9]", "", sensor.lower())
    plain = re.sub(r"^s([12])", r"sentinel\1", plain)
    known = [seen for data, seen in DATA_SETS.items() if data in trained_on]
    words = re.sub(r"[^a-z0-9]", "", trained_on.lower())
    return bool(plain) and plain not in words and not any(plain.startswith(seen) for seen in known)


WGS84 = "EPSG:4326"
_IN_NAME = re.compile(r"(?<!\d)((?:19|20)\d{2})([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")


@dataclass(frozen=True)
class Footprint:
    """Location and time of an image, from its header."""

    outline: Any
    """Shapely polygon, longitude and latitude in degrees."""
    date: datetime | None
    """Acquisition time, UTC: from the TIFF's tag, else from a date in the file's name; None if neither exists."""


def read_footprint(path: Path, *, remote: bool = False) -> Footprint:
    """Read a GeoTIFF's outline and date.

    Args:
        path: The file.
        remote: Whether it may be an address.

    Raises:
        DataError: It cannot be opened, or is not georeferenced.
    """
    with rasterio.Env(**GDAL_OPTIONS), open_raster(path, remote=remote) as dataset:
        if dataset.crs is None or dataset.transform.is_identity:
            raise DataError("is not georeferenced", path=path, remedy="georeference it first")
        return Footprint(outline_lonlat(grid_of(dataset), path), taken_at(dataset.tags()) or _date_in_name(path))


def outline_lonlat(grid: Grid, path: Path) -> Any:  # noqa: ANN401 - shapely has no types
    """A grid's outline as a polygon of longitude and latitude, degrees.

    Raises:
        DataError: Its CRS cannot be transformed.
    """
    way = pyproj.Transformer.from_crs(grid.crs, WGS84, always_xy=True)
    points = np.stack(way.transform(*place(grid.transform, *outline_of(grid))), axis=1)
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) < 3:
        raise DataError("has no location on Earth", path=path, remedy="check its CRS")
    return shapely.make_valid(shapely.Polygon(points))


def _date_in_name(path: Path) -> datetime | None:
    found = _IN_NAME.search(path.stem)
    try:
        return datetime(int(found[1]), int(found[3]), int(found[4]), tzinfo=UTC) if found else None
    except ValueError:  # 31 February
        return None


PARTS = 16
"""Steps per side of an outline's box: straight lines in a CRS are curved on the globe."""
STRAIGHT = 1e-6
"""Corners closer to a straight line than this are left out, degrees: 0.1 m."""
DECIMALS = 7
"""Decimals of a degree: 1 cm."""
Box = tuple[float, float, float, float]
"""West, south, east, north in degrees; west is larger than east if the antimeridian is between them."""


def outline_and_box(shape: Any, crs: str) -> tuple[Any, Box]:  # noqa: ANN401 - shapely has no types
    """The convex outline of a shape as a polygon, or two if the antimeridian cuts it, and its box.

    Args:
        shape: Shapely geometry with an area.
        crs: Its CRS.
    """
    hull = shape.convex_hull
    west, south, east, north = hull.bounds
    way = pyproj.Transformer.from_crs(crs, WGS84, always_xy=True)
    ring = shapely.segmentize(hull, max(east - west, north - south) / PARTS).exterior
    lon, lat = way.transform(*np.transpose(ring.coords))
    pole = _pole_within(hull, way)
    if pole:
        side = float(np.min(lat) if pole > 0 else np.max(lat))
        low, high = sorted((side, 90.0 * pole))
        return shapely.box(-180, low, 180, high), (-180.0, low, 180.0, high)
    middle = float(lon[0])
    near = lon - 360 * np.round((lon - middle) / 360)
    flat = shapely.make_valid(shapely.simplify(shapely.Polygon(np.column_stack([near, lat])), STRAIGHT))
    parts = [_moved(flat, turn) for turn in (-360, 0, 360)]
    kept = [part for part in parts if not part.is_empty and part.area > 0]
    pieces = [p for part in kept for p in shapely.get_parts(part) if p.geom_type == "Polygon"]
    turned = [orient(piece) for piece in pieces]
    whole = turned[0] if len(turned) == 1 else shapely.multipolygons(turned)
    west, east = _within(flat.bounds[0]), _within(flat.bounds[2])
    if len(kept) == 1:
        west, east = whole.bounds[0], whole.bounds[2]
    box = west, whole.bounds[1], east, whole.bounds[3]
    return _rounded(whole), tuple(round(float(v), DECIMALS) for v in box)  # type: ignore[return-value]


def _pole_within(hull: Any, way: pyproj.Transformer) -> int:  # noqa: ANN401
    """1 or -1 if the north or south pole is inside, else 0."""
    if way.source_crs is not None and way.source_crs.is_geographic:
        return 0
    for sign in (1, -1):
        x, y = way.transform(0.0, 90.0 * sign, direction=pyproj.enums.TransformDirection.INVERSE)
        if np.isfinite((x, y)).all() and hull.contains(shapely.Point(x, y)):
            back = way.transform(x, y)
            if abs(back[1] - 90.0 * sign) < 1e-6:
                return sign
    return 0


def _moved(shape: Any, turn: float) -> Any:  # noqa: ANN401
    """The part of a shape, moved by ``turn`` degrees, within -180 to 180 degrees."""
    there = shapely.transform(shape, lambda xy: xy + np.array([turn, 0.0]))
    return shapely.intersection(there, shapely.box(-180, -90, 180, 90))


def _within(lon: float) -> float:
    """A longitude wrapped to -180..180 degrees."""
    return (lon + 180) % 360 - 180


def _rounded(shape: Any) -> Any:  # noqa: ANN401
    return shapely.transform(shape, lambda xy: np.round(xy, DECIMALS))
