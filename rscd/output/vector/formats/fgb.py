"""FlatGeobuf, with a spatial index."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from rscd.core.types import Grid
from rscd.output.vector.formats import count_by_gdal, write_by_gdal

count = count_by_gdal


def write(path: Path, features: pa.RecordBatchReader, grid: Grid, kind: str, layer: str) -> None:
    """As ``Format.write``."""
    write_by_gdal(path, features, grid, kind, layer, "FlatGeobuf", SPATIAL_INDEX="YES")
