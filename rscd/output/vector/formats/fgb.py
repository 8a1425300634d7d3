"""FlatGeobuf, with a spatial index."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from rscd.core.types import Grid
from rscd.output.vector import gdal

count = gdal.count


def write(path: Path, features: pa.RecordBatchReader, grid: Grid, kind: str, layer: str) -> None:
    """As ``Format.write``."""
    gdal.write(path, features, grid, kind, layer, "FlatGeobuf", SPATIAL_INDEX="YES")
