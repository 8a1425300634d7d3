"""The rows of a manifest that is a table: CSV, GeoJSON, GeoPackage or GeoParquet. Values come as text."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio

from rscd.core.errors import DataError
from rscd.scene.aoi import refuse_views

REQUIRED = ("id", "before", "after")
OPTIONAL = ("aoi", "threshold", "model", "before_date", "after_date")
SUFFIXES = (".csv", ".geojson", ".json", ".gpkg", ".parquet")
"""What a manifest may be called."""
ALIKE = 0.8
"""A column whose name is as similar as this to one of OPTIONAL (0..1, ``difflib``) is taken for a slip."""
SQLITE = b"SQLite format 3\0"


class Row(NamedTuple):
    """A row of a manifest."""

    line: int
    """Line of a CSV file, counted from 1; else number of the feature, from 1."""
    values: dict[str, str]
    """By column, those of REQUIRED and OPTIONAL alone; empty where there is no value."""


def table_rows(path: Path) -> Iterator[Row]:
    """Read a table's rows in order.

    Raises:
        DataError: No file of a known kind, a column is missing, or a row does not fit the header.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".csv":
            yield from _csv_rows(path)
        elif suffix in (".json", ".geojson"):
            yield from feature_rows(path, read_json(path))
        elif suffix == ".gpkg":
            yield from _table(path, _geopackage(path))
        else:
            yield from _table(path, pq.read_table(path, columns=_present(path, pq.read_schema(path).names)))
    except (pa.ArrowException, pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, OSError) as error:
        raise DataError(f"cannot be read: {error}", path=path, remedy="see that it is whole") from error


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Parse a JSON file.

    Raises:
        DataError: It is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise DataError(f"is no JSON: {error}", path=path, remedy="see that it is whole") from error


def feature_rows(path: Path, content: Any) -> Iterator[Row]:  # noqa: ANN401
    """The rows of a GeoJSON FeatureCollection: its features' properties."""
    features = content.get("features") if isinstance(content, dict) else None
    if not isinstance(features, list):
        remedy = "give a FeatureCollection, a STAC ItemCollection or a STAC catalog"
        raise DataError("is JSON, but no manifest", path=path, remedy=remedy)
    rows = [f.get("properties") or {} if isinstance(f, dict) else {} for f in features]
    _present(path, sorted({name for row in rows if isinstance(row, dict) for name in row}) if rows else REQUIRED)
    for number, row in enumerate(rows, start=1):
        yield Row(number, _texts(row if isinstance(row, dict) else {}))


def _csv_rows(path: Path) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            names = [name.strip() for name in next(reader, [])]
            _present(path, names)
            if len(set(names)) < len(names):
                raise DataError("line 1: a column comes twice", path=path, remedy="name each column once")
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(names):
                    problem = f"line {reader.line_num}: {len(cells)} values for {len(names)} columns"
                    raise DataError(problem, path=path, remedy="quote values that hold commas")
                yield Row(reader.line_num, _texts(dict(zip(names, cells, strict=True))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"is no CSV in UTF-8: {error}", path=path, remedy="save it as CSV, UTF-8") from error


def _geopackage(path: Path) -> pa.Table:
    with path.open("rb") as file:
        if file.read(len(SQLITE)) != SQLITE:
            raise DataError("is no GeoPackage", path=path, remedy="see that it is whole")
    refuse_views(path)
    names = list(pyogrio.read_info(path)["fields"])
    _, table = pyogrio.read_arrow(path, columns=_present(path, names), read_geometry=False)
    return table


def _table(path: Path, table: pa.Table) -> Iterator[Row]:
    number = 0
    for batch in table.to_batches():
        for row in batch.to_pylist():
            number += 1
            yield Row(number, _texts(row))


def _present(path: Path, names: Iterable[str]) -> list[str]:
    """Those of the known columns that there are, or a refusal."""
    names = list(names)
    lacking = [name for name in REQUIRED if name not in names]
    if lacking:
        there = ", ".join(names)[:200] or "none"
        columns = f"line 1: no column {', '.join(lacking)}; there are: {there}"
        remedy = f"name the columns {','.join(REQUIRED)} and, if wanted, {','.join(OPTIONAL)}; separate by commas"
        raise DataError(columns, path=path, remedy=remedy)
    for name in names:
        meant = [] if name in (*REQUIRED, *OPTIONAL) else get_close_matches(name.lower(), OPTIONAL, 1, ALIKE)
        if meant and meant[0] not in names:
            remedy = f"call it {meant[0]}, if that is meant, else something less alike"
            raise DataError(f"line 1: column {name!r} is unknown", path=path, remedy=remedy)
    return [name for name in (*REQUIRED, *OPTIONAL) if name in names]


def _texts(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: _text(row.get(name)) for name in (*REQUIRED, *OPTIONAL)}


def _text(value: Any) -> str:  # noqa: ANN401
    if value is None or value != value:  # NaN is not itself
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()
