"""Formats of the vector file beside the GeoPackage, a module each: ``geojson.py`` writes ``.geojson``.

A module holds the two functions of ``Format``; that is all that it takes to add a format. Those of GDAL's
drivers share ``write_by_gdal`` and ``count_by_gdal``. Nothing heavy is imported here, so that a command can refuse
a suffix at once.
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
    """What a module of this folder holds."""

    @staticmethod
    def write(path: Path, features: pa.RecordBatchReader, grid: Grid, kind: str, layer: str) -> None:
        """Write a file.

        Args:
            path: The file, which does not exist.
            features: Batches with the columns of ``rscd.vectorize.attributes``, and WKB in ``geometry``.
            grid: Gives the CRS.
            kind: ``Polygon`` or ``MultiPolygon``.
            layer: ``changes`` or ``extent``.
        """

    @staticmethod
    def count(path: Path) -> int:
        """Open the file anew, and count its features."""


def suffixes() -> tuple[str, ...]:
    """What the vector file may be called."""
    return GEOPACKAGE, *(f".{module.name}" for module in iter_modules(__path__))


def check_vector_name(path: Path) -> None:
    """Refuse a vector file of no known format, or that could not be written under its name.

    Raises:
        UsageError: Its suffix is unknown, or GDAL would take its path for one into an archive.
    """
    if path.suffix.lower() not in suffixes():
        suffix = f"suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise UsageError(f"{suffix}: no format", path=path, remedy=f"use one of {', '.join(suffixes())}")
    if "!" in str(path.absolute()) and path.suffix.lower() != ".parquet":
        raise UsageError("has a '!' in its path", path=path, remedy="write elsewhere and move the file")


def format_of(path: Path) -> Format:
    """The module for a file's suffix, which is one of ``suffixes`` and no GeoPackage's."""
    return cast(Format, import_module(f"{__name__}{path.suffix.lower()}"))


def write_by_gdal(
    path: Path, features: pa.RecordBatchReader, grid: Grid, kind: str, layer: str, driver: str, **options: str
) -> None:
    """As ``Format.write``, by a driver of GDAL's with options of its layers."""
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
    """As ``Format.count``."""
    import pyogrio

    return int(pyogrio.read_info(str(path), force_feature_count=True)["features"])
