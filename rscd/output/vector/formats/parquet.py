"""GeoParquet 1.1 with a covering ``bbox`` column, one row group per batch: memory does not grow with the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from pyproj import CRS

from rscd.core.types import Grid


def write(path: Path, features: pa.RecordBatchReader, grid: Grid, kind: str, layer: str) -> None:
    """As ``Format.write``."""
    bbox_type = pa.struct([(name, pa.float64()) for name in ("xmin", "ymin", "xmax", "ymax")])
    schema = features.schema.append(pa.field("bbox", bbox_type))
    total = np.array([np.inf, np.inf, -np.inf, -np.inf])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in features:
            bounds = shapely.bounds(shapely.from_wkb(batch["geometry"].to_numpy(zero_copy_only=False)))
            bounds = bounds.reshape(-1, 4)
            boxes = pa.StructArray.from_arrays([pa.array(side) for side in bounds.T], fields=list(bbox_type))
            writer.write_batch(pa.RecordBatch.from_arrays([*batch.columns, boxes], schema=schema))
            total[:2] = np.fmin(total[:2], bounds[:, :2].min(axis=0, initial=np.inf))
            total[2:] = np.fmax(total[2:], bounds[:, 2:].max(axis=0, initial=-np.inf))
        writer.add_key_value_metadata({"geo": json.dumps(_geo(grid, kind, total))})


def count(path: Path) -> int:
    """As ``Format.count``."""
    return int(pq.read_metadata(path).num_rows)


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
