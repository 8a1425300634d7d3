"""An outline as GeoJSON has it: longitude and latitude, cut at the antimeridian (RFC 7946)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyproj
import shapely
from shapely.geometry.polygon import orient

from rscd.scene.metadata import WGS84

PARTS = 16
"""Each side of an outline's box is followed in so many steps: straight lines of a CRS are curved on the globe."""
STRAIGHT = 1e-6
"""Corners that lie closer to a straight line than this are left out, degrees: 0.1 m."""
DECIMALS = 7
"""Of a degree: 1 cm."""
Box = tuple[float, float, float, float]
"""West, south, east, north in degrees; west is larger than east where the antimeridian lies between them."""


def outline_and_box(shape: Any, crs: str) -> tuple[Any, Box]:  # noqa: ANN401 - shapely has no types
    """The convex outline of a shape as a polygon, or as two where the antimeridian cuts it, and its box.

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
    """1 or -1 where the north or south pole lies within, else 0."""
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
    """What of a shape, moved by a turn, lies within -180 to 180 degrees."""
    there = shapely.transform(shape, lambda xy: xy + np.array([turn, 0.0]))
    return shapely.intersection(there, shapely.box(-180, -90, 180, 90))


def _within(lon: float) -> float:
    """A longitude taken to -180 up to 180 degrees."""
    return (lon + 180) % 360 - 180


def _rounded(shape: Any) -> Any:  # noqa: ANN401
    return shapely.transform(shape, lambda xy: np.round(xy, DECIMALS))
