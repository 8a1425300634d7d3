"""What formats share that GDAL writes and reads."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyogrio

from rscd.core.types import Grid


def write(
    path: Path, features: pa.RecordBatchReader, grid: Grid, kind: str, layer: str, driver: str, **options: str
) -> None:
    """As ``Format.write``, by a driver of GDAL's with options of its layers."""
    pyogrio.write_arrow(
        features,
        str(path),
        layer=layer,
        driver=driver,
        geometry_type=kind,
        crs=grid.crs,
        geometry_name="geometry",
        layer_options=options,
    )


def count(path: Path) -> int:
    """As ``Format.count``."""
    return int(pyogrio.read_info(str(path), force_feature_count=True)["features"])
