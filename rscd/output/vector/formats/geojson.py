"""GeoJSON (RFC 7946): longitude and latitude on WGS 84 with 7 decimals (1 cm), numbers rounded by unit."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from rscd.core.types import Grid
from rscd.output.vector.formats import count_by_gdal, write_by_gdal
from rscd.output.vector.geopackage import bands_of
from rscd.vectorize.attributes import columns

count = count_by_gdal
_DECIMALS = {"m2": 2, "m": 2, "DN": 2, "px": 3, "degree": 7}
"""Unit -> number of meaningful decimals."""
_OTHER = 4
"""Decimals of shares and ratios."""


def write(path: Path, features: pa.RecordBatchReader, grid: Grid, kind: str, layer: str) -> None:
    """As ``Format.write``."""
    rounded = pa.RecordBatchReader.from_batches(features.schema, map(_rounded, features))
    write_by_gdal(path, rounded, grid, kind, layer, "GeoJSON", RFC7946="YES", WRITE_NAME="NO")


def _rounded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same features with numbers rounded to meaningful decimals, for readability and file size."""
    units = {column.name: column.unit for column in columns(bands_of(batch.schema.names))}
    arrays = list(batch.columns)
    for i, field in enumerate(batch.schema):
        if pa.types.is_floating(field.type):
            arrays[i] = pc.round(arrays[i], _DECIMALS.get(units.get(field.name, ""), _OTHER))
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)
