"""The GeoPackage's data dictionary (Schema extension): titles, units and meanings of the columns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

from rscd.output.evidence import Column

_EXTENSION = "gpkg_schema", "http://www.geopackage.org/spec121/#extension_schema", "read-write"
_REVIEW = "rscd_review"
# Table definitions as the GeoPackage encoding standard 1.3 gives them (tables 9, 13 and 14 there).
_TABLES = """
CREATE TABLE IF NOT EXISTS gpkg_extensions (
    table_name TEXT, column_name TEXT, extension_name TEXT NOT NULL, definition TEXT NOT NULL,
    scope TEXT NOT NULL, CONSTRAINT ge_tce UNIQUE (table_name, column_name, extension_name));
CREATE TABLE IF NOT EXISTS gpkg_data_columns (
    table_name TEXT NOT NULL, column_name TEXT NOT NULL, name TEXT, title TEXT, description TEXT,
    mime_type TEXT, constraint_name TEXT, CONSTRAINT pk_gdc PRIMARY KEY (table_name, column_name),
    CONSTRAINT gdc_tn UNIQUE (table_name, name));
CREATE TABLE IF NOT EXISTS gpkg_data_column_constraints (
    constraint_name TEXT NOT NULL, constraint_type TEXT NOT NULL, value TEXT, min NUMERIC,
    min_is_inclusive BOOLEAN, max NUMERIC, max_is_inclusive BOOLEAN, description TEXT,
    CONSTRAINT gdcc_ntv UNIQUE (constraint_name, constraint_type, value));
"""


def add_data_dictionary(
    database: sqlite3.Connection, layer: str, columns: Iterable[Column], review: Mapping[str, str]
) -> None:
    """Describe a layer's columns, and offer the review states as an enumeration.

    Args:
        database: An open GeoPackage.
        layer: Name of the layer.
        columns: Its columns.
        review: Values that the column ``review`` may take, and what they mean.
    """
    database.executescript(_TABLES)
    database.executemany(
        "INSERT INTO gpkg_extensions VALUES (?, NULL, ?, ?, ?)",
        [(table, *_EXTENSION) for table in ("gpkg_data_columns", "gpkg_data_column_constraints")],
    )
    # "name" is the alias that GDAL reads, and must be unique in a layer.
    database.executemany(
        "INSERT INTO gpkg_data_columns VALUES (?, ?, ?, ?, ?, NULL, ?)",
        [(layer, c.name, c.alias, c.title, _told(c), _REVIEW if c.name == "review" else None) for c in columns],
    )
    database.executemany(
        "INSERT INTO gpkg_data_column_constraints VALUES (?, 'enum', ?, NULL, NULL, NULL, NULL, ?)",
        [(_REVIEW, value, meaning) for value, meaning in review.items()],
    )


def _told(column: Column) -> str:
    return f"{column.meaning} [{column.unit}]" if column.unit else column.meaning
