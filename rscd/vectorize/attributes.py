"""Attributes of each polygon of the layer ``changes``, computed only from the component table.

The columns are defined once, in ``columns``: the GeoPackage's data dictionary and the report read them from there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from pyproj import Transformer

from rscd.core.pixel_area import Ellipsoid
from rscd.core.types import P_SCALE, ComponentTable, DoubleArray, Grid, LongArray
from rscd.scene.pair import Pair

GeometryArray = NDArray[np.object_]
Residual = Callable[[DoubleArray, DoubleArray], DoubleArray]
"""(rows, columns) on the grid (px) -> remaining shift between the dates there, px."""

REVIEW_STATES = {"": "not looked at", "accepted": "a change", "rejected": "no change", "unsure": "look again"}
"""Values of ``review`` and their meaning; rscd leaves the column empty."""
DIRECTIONS = "appeared", "vanished", "replaced", "unclear"
"""Values of ``direction``."""
CLEAR = 0.15
"""A difference in presence of at least this shows on which date an object exists (tuned on rendered layouts)."""
THERE = 0.5
"""Presence from which an object is present."""
GEOMETRY_METADATA = {"ARROW:extension:name": "geoarrow.wkb"}


@dataclass(frozen=True)
class Column:
    """One column of the layer ``changes``."""

    name: str
    """Name in the file."""
    type: pa.DataType
    """Arrow type."""
    title: str
    """Short title."""
    unit: str
    """Unit of the values; empty for text and flags."""
    meaning: str
    """Definition of the value, and how it was measured."""

    @property
    def alias(self) -> str:
        """Name in forms and tables: title and unit."""
        return f"{self.title} ({self.unit})" if self.unit not in ("", "1") else self.title


def _real(name: str, title: str, unit: str, meaning: str) -> Column:
    return Column(name, pa.float64(), title, unit, meaning)


_DIRECTION = "appeared, vanished, replaced (there on both dates) or unclear; null without a presence head"
_PRESENT = "Mean probability that the thing is there on the {} date; null without a presence head"
_SHAPE = (
    Column("id", pa.int64(), "Number", "", "Counts from 1, in the order in which polygons are complete"),
    Column("direction", pa.string(), "Direction", "", _DIRECTION),
    _real(
        "area_m2",
        "Area",
        "m2",
        "Geodesic area of the changed pixels, before the outline was simplified",
    ),
    _real("perimeter_m", "Perimeter", "m", "Geodesic length of all rings of the outline as drawn"),
    _real("compactness", "Compactness", "1", "4 pi area / perimeter^2: 1 is a disc, 0.785 a square"),
    _real("mean_probability", "Mean probability", "0..1", "Mean calibrated probability of its pixels"),
    _real("max_probability", "Largest probability", "0..1", "Largest calibrated probability of its pixels"),
    _real("p90_probability", "90th percentile", "0..1", "Least probability that 90 % of its pixels do not exceed"),
    _real("presence_before", "Presence before", "0..1", _PRESENT.format("before")),
    _real("presence_after", "Presence after", "0..1", _PRESENT.format("after")),
    _real("valid_fraction", "Seen outline", "0..1", "Share of its pixel outline that faces observable ground"),
    Column("touches_edge", pa.bool_(), "Touches the edge", "", "It reaches the grid's border and may be cut there"),
)
_BRIGHTER = "After minus before, mean over the model's bands; null where the files differ in dtype"
_CHANGE = (
    _real("brightness_change", "Brightness change", "DN", _BRIGHTER),
    _real("ndvi_change", "NDVI change", "-2..2", "After minus before, of mean colours; null without near infrared"),
    _real("registration_residual_px", "Shift left", "px", "Shift left between the dates; null if not measured"),
    _real("lon", "Longitude", "degree", "Longitude of the outline's centroid, WGS 84"),
    _real("lat", "Latitude", "degree", "Latitude of the outline's centroid, WGS 84"),
    Column("review", pa.string(), "Review", "", "Empty, accepted, rejected or unsure: yours to fill"),
)


def columns(bands: Sequence[str] = ()) -> tuple[Column, ...]:
    """The columns of the layer ``changes``, in order, without the geometry.

    Args:
        bands: Names of the bands with known mean values; empty without images.
    """
    colours = tuple(
        _real(f"{date}_{band}", f"{date.capitalize()}: {band}", "DN", f"Mean of the {date} image, {band}")
        for date in ("before", "after")
        for band in bands
    )
    return _SHAPE + colours + _CHANGE


def feature_schema(bands: Sequence[str] = ()) -> pa.Schema:
    """Arrow schema of the layer ``changes``: ``columns`` and the geometry as WKB."""
    fields = [pa.field(column.name, column.type) for column in columns(bands)]
    return pa.schema([*fields, pa.field("geometry", pa.binary(), metadata=GEOMETRY_METADATA)])


def band_names(contract: Sequence[str], count: int) -> tuple[str, ...]:
    """Names of the bands that are read: the contract's if their number agrees, else band_1, band_2 ...

    Args:
        contract: Band names of the model's contract, in reading order.
        count: Number of bands that are read.
    """
    plain = tuple(re.sub(r"\W+", "_", name.lower()) for name in contract)
    if len(plain) == count and len(set(plain)) == count:
        return plain
    return tuple(f"band_{i + 1}" for i in range(count))


class Attributes:
    """Computes the columns of complete components.

    Args:
        grid: The components' grid.
        bands: Names of the image bands summed in the tables.
        residual: Remaining shift between the dates, if it was measured.
        beside: Number of bands at the end that the model does not use.
        one_scale: Whether both dates have the same dtype, so that differences are meaningful.
    """

    def __init__(
        self,
        grid: Grid,
        bands: Sequence[str] = (),
        residual: Residual | None = None,
        *,
        beside: int = 0,
        one_scale: bool = True,
    ) -> None:
        self.bands = tuple(bands)
        self.schema = feature_schema(bands)
        self._grid, self._residual = grid, residual
        self._seen, self._one_scale = len(self.bands) - beside, one_scale
        self._ellipsoid = Ellipsoid(grid.crs)
        self._to_lonlat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)

    @classmethod
    def of(cls, pair: Pair, bands: Sequence[str], residual: Residual | None) -> Attributes:
        """For a pair that is passed to a model with these bands."""
        nir = ("nir",) * (pair.before.raster.nir is not None)
        names = (*band_names(bands, len(pair.before.raster.bands)), *nir)
        return cls(pair.grid, names, residual, beside=len(nir), one_scale=pair.one_scale)

    def batch(self, first_id: int, table: ComponentTable, polygons: GeometryArray) -> pa.RecordBatch:
        """The features of n components, numbered from ``first_id``.

        Args:
            first_id: Number of the first component.
            table: n rows.
            polygons: Their final outlines, shape (n,).
        """
        perimeter = perimeters_m(polygons, self._ellipsoid)
        low, high = table.bbox[:, :2], table.bbox[:, 2:]
        lon, lat = self._centroids(polygons)
        there = self._presence(table)
        made: list[object] = [
            np.arange(first_id, first_id + len(table)),
            pa.array([direction(before, after) for before, after in there], pa.string()),
            table.area_m2,
            perimeter,
            4 * np.pi * table.area_m2 / perimeter**2,
            table.p_sum / table.pixels / P_SCALE,
            table.p_max / P_SCALE,
            percentile(table, 90) / P_SCALE,
            *there.T,
            1 - table.hidden_edges / table.outline_edges,
            (low == 0).any(axis=1) | (high == self._grid.shape).any(axis=1),
            *self._colours(table),
            self._residuals(table),
            lon,
            lat,
            pa.repeat(pa.scalar(""), len(table)),
            pa.array(shapely.to_wkb(polygons), type=pa.binary()),
        ]
        arrays = [
            pa.array(column, type=field.type, from_pandas=field.type == pa.float64())  # NaN is null
            for column, field in zip(made, self.schema, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _colours(self, table: ComponentTable) -> list[DoubleArray]:
        """Mean values of both dates, band by band, then the change of brightness and of NDVI."""
        unknown = np.full(len(table), np.nan)
        if not self.bands:
            return [unknown, unknown]
        before, after = (sums / table.pixels[:, None] for sums in (table.before_sum, table.after_sum))
        if before.shape[1] != len(self.bands):  # a table without rows has no bands
            before = after = np.full((len(table), len(self.bands)), np.nan)
        ndvi = [unknown, unknown]
        if "nir" in self.bands and "red" in self.bands:
            red, nir = self.bands.index("red"), self.bands.index("nir")
            ndvi = [_ndvi(colour[:, red], colour[:, nir]) for colour in (before, after)]
        brighter = (after - before)[:, : self._seen].mean(axis=1) if self._one_scale else unknown
        return [*before.T, *after.T, brighter, ndvi[1] - ndvi[0]]

    def _presence(self, table: ComponentTable) -> DoubleArray:
        """Mean presence before and after, shape (n, 2); NaN without a presence head."""
        if table.presence_sum.shape[1] == 0:
            return np.full((len(table), 2), np.nan)
        return np.asarray(table.presence_sum / table.pixels[:, None] / P_SCALE)

    def _residuals(self, table: ComponentTable) -> DoubleArray:
        """Remaining shift at the centre of each bounding box, px; NaN if not measured."""
        if self._residual is None:
            return np.full(len(table), np.nan)
        middle = (table.bbox[:, :2] + table.bbox[:, 2:]) / 2
        return self._residual(middle[:, 0], middle[:, 1])

    def _centroids(self, polygons: GeometryArray) -> tuple[DoubleArray, DoubleArray]:
        points = shapely.get_coordinates(shapely.centroid(polygons))
        lon, lat = self._to_lonlat.transform(points[:, 0], points[:, 1])
        return within_180(np.asarray(lon)), np.asarray(lat)


def direction(before: float, after: float) -> str | None:
    """Whether an object appeared, vanished or was replaced, by presence before and after, 0..1; NaN: unknown."""
    if not math.isfinite(before + after):
        return None
    if abs(after - before) >= CLEAR:
        return "appeared" if after > before else "vanished"
    return "replaced" if min(before, after) >= THERE else "unclear"


def drawn_values(shape: Any, crs: str) -> dict[str, float]:  # noqa: ANN401 - shapely has no types
    """Values for a polygon that a person drew, without the images.

    Args:
        shape: Polygon or multipolygon.
        crs: Its CRS as WKT.
    """
    parts = np.array([part for part in shapely.get_parts(shape) if part.geom_type == "Polygon"], dtype=object)
    ellipsoid = Ellipsoid(crs)
    perimeter = float(perimeters_m(parts, ellipsoid).sum())
    area = ellipsoid.area_m2(parts)
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(*shape.centroid.coords[0])
    return {
        "area_m2": area,
        "perimeter_m": perimeter,
        "compactness": 4 * np.pi * area / perimeter**2 if perimeter else 0.0,
        "lon": float(within_180(np.asarray(lon))),
        "lat": float(lat),
    }


def within_180(lon: DoubleArray) -> DoubleArray:
    """Longitudes in degrees wrapped to -180..180: a scene may continue beyond the antimeridian."""
    return np.where(np.abs(lon) <= 180, lon, (lon + 180) % 360 - 180)


def percentile(table: ComponentTable, percent: int) -> LongArray:
    """Smallest probability value that ``percent`` % of a component's pixels do not exceed, shape (n,)."""
    if not len(table):
        return np.zeros(0, dtype=np.int64)
    start = table.hist_start[:-1]
    running = np.cumsum(table.hist_count)
    before = np.append(0, running)[start]
    share = running - np.repeat(before, np.diff(table.hist_start))
    short = 100 * share < percent * np.repeat(table.pixels, np.diff(table.hist_start))
    return table.hist_value[start + np.add.reduceat(short, start, dtype=np.int64)].astype(np.int64)


def perimeters_m(polygons: GeometryArray, ellipsoid: Ellipsoid) -> DoubleArray:
    """Geodesic length of all rings of each polygon, m, shape (n,)."""
    if not len(polygons):
        return np.zeros(0)
    _, xy, (ring_start, polygon_start) = shapely.to_ragged_array(polygons)
    steps = np.append(ellipsoid.lengths_m(xy), 0.0)
    steps[ring_start[1:] - 1] = 0.0  # steps from the end of a ring to the start of the next
    return np.asarray(np.add.reduceat(steps, ring_start[polygon_start[:-1]]))


def _ndvi(red: DoubleArray, nir: DoubleArray) -> DoubleArray:
    """(nir - red) / (nir + red), NaN where both are 0."""
    total = nir + red
    return np.asarray(np.divide(nir - red, total, out=np.full(len(total), np.nan), where=total != 0))
