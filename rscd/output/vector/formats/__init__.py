"""Vector formats other than GeoPackage, one module each: ``geojson.py`` writes ``.geojson``.

To add a format, add a module with the two functions of ``Format``. Formats with a GDAL driver share
``write_by_gdal`` and ``count_by_gdal``. Nothing heavy is imported here, so that a command can refuse a suffix at
once.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Protocol, cast

from rscd.core.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from rscd.core.types import Grid

GEOPACKAGE = ".gpkg"


class Format(Protocol):
    """Interface of the modules in this folder."""

    @staticmethod
    def write(path: Path, features: pa.RecordBatchReader, grid: Grid, kind: str, layer: str) -> None:
        """Write a file.

        Args:
            path: The file, which must not exist.
            features: Batches with the columns of ``rscd.vectorize.attributes``, and WKB in ``geometry``.
            grid: Grid with the CRS.
            kind: ``Polygon`` or ``MultiPolygon``.
            layer: ``changes`` or ``extent``.
        """

    @staticmethod
    def count(path: Path) -> int:
        """Open the written file, and count its features."""


def suffixes() -> tuple[str, ...]:
    """Suffixes of the vector file."""
    return GEOPACKAGE, *(f".{module.name}" for module in iter_modules(__path__))


def check_vector_name(path: Path) -> None:
    """Refuse a vector file with an unknown format, or with a name under which it cannot be written.

    Raises:
        UsageError: Its suffix is unknown, or GDAL would treat its path as one inside an archive.
    """
    if path.suffix.lower() not in suffixes():
        suffix = f"suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise UsageError(f"{suffix}: unknown format", path=path, remedy=f"use one of {', '.join(suffixes())}")
    if "!" in str(path.absolute()) and path.suffix.lower() != ".parquet":
        raise UsageError("has a '!' in its path", path=path, remedy="write elsewhere and move the file")


def format_of(path: Path) -> Format:
    """The module for a file's suffix, one of ``suffixes`` other than GeoPackage."""
    return cast(Format, import_module(f"{__name__}{path.suffix.lower()}"))


def write_by_gdal(
    path: Path, features: pa.RecordBatchReader, grid: Grid, kind: str, layer: str, driver: str, **options: str
) -> None:
    """``Format.write`` with a GDAL driver and layer options."""
    import pyogrio

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


def count_by_gdal(path: Path) -> int:
    """``Format.count`` with a GDAL driver."""
    import pyogrio

    return int(pyogrio.read_info(str(path), force_feature_count=True)["features"])
