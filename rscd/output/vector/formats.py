"""The vector file by its suffix: GeoPackage, FlatGeobuf, GeoJSON or GeoParquet, with the same columns.

A GeoPackage holds extent and provenance itself; the others get them beside them, see ``targets.siblings``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyogrio
import shapely
from pyproj import CRS

from rscd.core.paths import siblings
from rscd.core.publish import Publication
from rscd.core.types import Grid
from rscd.output.vector.features import FeatureStream
from rscd.output.vector.geopackage import ObservedExtent, bands_of, vector_writing, write_geopackage
from rscd.vectorize.attributes import columns

_DRIVERS: dict[str, dict[str, Any]] = {
    ".fgb": {"driver": "FlatGeobuf", "layer_options": {"SPATIAL_INDEX": "YES"}},
    # RFC7946 brings coordinates to longitude and latitude on WGS 84, with 7 decimals: 1 cm.
    ".geojson": {"driver": "GeoJSON", "layer_options": {"RFC7946": "YES", "WRITE_NAME": "NO"}},
}
_DECIMALS = {"m2": 2, "m": 2, "DN": 2, "px": 3, "degree": 7}
"""Unit -> decimals that mean something."""
_OTHER = 4
"""Decimals of shares and ratios."""


def write_vectors(
    path: Path,
    grid: Grid,
    changes: FeatureStream,
    extent: ObservedExtent,
    *,
    provenance: Callable[[], Mapping[str, object]],
    publication: Publication,
) -> None:
    """Write the vector file in the format of its suffix, and its siblings, beside their targets; check them.

    Args:
        path: The target; may exist, its folder must.
        grid: Gives the CRS.
        changes: The polygons.
        extent: What was observed, once all polygons have come.
        provenance: Asked then: names, and values that JSON can hold.
        publication: Puts them in place.

    Raises:
        OutputError: It could not be written, or what was written is not sound. What making polygons raises comes
            as it is.
    """
    if path.suffix.lower() == ".gpkg":
        write_geopackage(path, grid, changes, extent, provenance=provenance, publication=publication)
        return
    beside, metadata, main = (publication.beside(each) for each in (*siblings(path), path))
    with changes.reader() as stream, vector_writing(path):
        _write(main, stream, grid, "Polygon", "changes")
    with vector_writing(path):
        _check(main, changes.features)
        area = extent.batch()
        _write(beside, pa.RecordBatchReader.from_batches(area.schema, [area]), grid, "MultiPolygon", "extent")
        _check(beside, 1)
        metadata.write_text(json.dumps(dict(provenance()), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _write(path: Path, stream: pa.RecordBatchReader, grid: Grid, kind: str, layer: str) -> None:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        _write_parquet(path, stream, grid, kind)
        return
    if suffix == ".geojson":
        stream = pa.RecordBatchReader.from_batches(stream.schema, map(_rounded, stream))
    options = _DRIVERS[suffix]
    pyogrio.write_arrow(
        stream, str(path), layer=layer, geometry_type=kind, crs=grid.crs, geometry_name="geometry", **options
    )


def _rounded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same features, numbers cut to what they mean: text is what a reader sees, and what fills the file."""
    units = {column.name: column.unit for column in columns(bands_of(batch.schema.names))}
    arrays = list(batch.columns)
    for i, field in enumerate(batch.schema):
        if pa.types.is_floating(field.type):
            arrays[i] = pc.round(arrays[i], _DECIMALS.get(units.get(field.name, ""), _OTHER))
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


def _write_parquet(path: Path, stream: pa.RecordBatchReader, grid: Grid, kind: str) -> None:
    """GeoParquet 1.1 with a covering ``bbox`` column, a row group a batch: memory does not grow with the file."""
    bbox_type = pa.struct([(name, pa.float64()) for name in ("xmin", "ymin", "xmax", "ymax")])
    schema = stream.schema.append(pa.field("bbox", bbox_type))
    total = np.array([np.inf, np.inf, -np.inf, -np.inf])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in stream:
            bounds = shapely.bounds(shapely.from_wkb(batch["geometry"].to_numpy(zero_copy_only=False)))
            bounds = bounds.reshape(-1, 4)
            boxes = pa.StructArray.from_arrays([pa.array(side) for side in bounds.T], fields=list(bbox_type))
            writer.write_batch(pa.RecordBatch.from_arrays([*batch.columns, boxes], schema=schema))
            total[:2] = np.fmin(total[:2], bounds[:, :2].min(axis=0, initial=np.inf))
            total[2:] = np.fmax(total[2:], bounds[:, 2:].max(axis=0, initial=-np.inf))
        writer.add_key_value_metadata({"geo": json.dumps(_geo(grid, kind, total))})


def _geo(grid: Grid, kind: str, bounds: np.ndarray) -> dict[str, Any]:
    """GeoParquet's file metadata, https://geoparquet.org/releases/v1.1.0/."""
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": [kind],
        "crs": CRS.from_user_input(grid.crs).to_json_dict(),
        "orientation": "counterclockwise",
        "covering": {"bbox": {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}},
    }
    if np.isfinite(bounds).all():
        column["bbox"] = bounds.tolist()
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def _check(path: Path, features: int) -> None:
    """Open the file anew and count."""
    if path.suffix.lower() == ".parquet":
        found = pq.read_metadata(path).num_rows
    else:
        found = pyogrio.read_info(str(path), force_feature_count=True)["features"]
    if found != features:
        raise OSError(f"it holds {found} features of {features}")
