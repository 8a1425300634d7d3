"""Access to a GeoPackage only with SQLite: its geometries, and a record of the outlines that rscd drew.

The record later shows what a person reshaped or deleted.
"""

from __future__ import annotations

import base64
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import shapely


def open_geopackage(path: Path) -> sqlite3.Connection:
    """Open a GeoPackage for writing, with the functions that its spatial index triggers call."""
    database = sqlite3.connect(path)
    bounds = ("MinX", 0), ("MinY", 1), ("MaxX", 2), ("MaxY", 3)
    for name, i in bounds:
        database.create_function(f"ST_{name}", 1, lambda blob, i=i: float(shapely.bounds(shape_of(blob))[i]))
    database.create_function("ST_IsEmpty", 1, lambda blob: int(blob is None or shape_of(blob).is_empty))
    return database


def shape_of(blob: bytes) -> Any:  # noqa: ANN401 - shapely has no types
    """The geometry in a GeoPackage binary: a header, then WKB."""
    return shapely.from_wkb(blob[header_size(blob) :])


def blob_of(shape: Any, srs_id: int) -> bytes:  # noqa: ANN401
    """A GeoPackage binary, without an envelope."""
    empty = 0x10 if shape.is_empty else 0
    return b"GP\0" + bytes([1 | empty]) + srs_id.to_bytes(4, "little", signed=True) + bytes(shapely.to_wkb(shape))


def header_size(blob: bytes) -> int:
    """Bytes before the WKB in a GeoPackage binary (clause 2.1.3 of the standard)."""
    return 8 + (0, 32, 48, 48, 64)[(blob[3] >> 1) & 7]


URI = "rscd:outlines"
"""Identifies the record in the file's metadata; no layer refers to it, so that no program shows it."""
_NUMBERS = "<u4"
# Tables as the GeoPackage encoding standard 1.3 gives them (15 and 16 there), and their extension.
_TABLES = """
CREATE TABLE IF NOT EXISTS gpkg_metadata (
    id INTEGER CONSTRAINT m_pk PRIMARY KEY ASC NOT NULL, md_scope TEXT NOT NULL DEFAULT 'dataset',
    md_standard_uri TEXT NOT NULL, mime_type TEXT NOT NULL DEFAULT 'text/xml', metadata TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS gpkg_metadata_reference (
    reference_scope TEXT NOT NULL, table_name TEXT, column_name TEXT, row_id_value INTEGER,
    timestamp DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
    md_file_id INTEGER NOT NULL, md_parent_id INTEGER,
    CONSTRAINT crmr_mfi_fk FOREIGN KEY (md_file_id) REFERENCES gpkg_metadata(id),
    CONSTRAINT crmr_mpi_fk FOREIGN KEY (md_parent_id) REFERENCES gpkg_metadata(id));
INSERT INTO gpkg_extensions (table_name, extension_name, definition, scope)
    SELECT name, 'gpkg_metadata', 'http://www.geopackage.org/spec121/#extension_metadata', 'read-write'
    FROM sqlite_master WHERE name IN ('gpkg_metadata', 'gpkg_metadata_reference')
    AND NOT EXISTS (SELECT 1 FROM gpkg_extensions WHERE extension_name = 'gpkg_metadata');
"""


def note_outlines(path: Path) -> None:
    """Record number and checksum of each outline in the layer ``changes``."""
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(_TABLES)
        database.execute("DELETE FROM gpkg_metadata WHERE md_standard_uri = ?", (URI,))
        noted = np.array(_outlines(database, "geometry"), np.int64).reshape(-1, 2)
        text = base64.b64encode(zlib.compress(noted.astype(_NUMBERS).T.tobytes())).decode()
        database.execute(
            "INSERT INTO gpkg_metadata (md_scope, md_standard_uri, mime_type, metadata)"
            " VALUES ('featureType', ?, 'text/plain', ?)",
            (URI, text),
        )


def edited_outlines(database: sqlite3.Connection, geometry: str) -> tuple[frozenset[int], int]:
    """Polygons of the layer ``changes`` that differ from rscd's outlines (rowid), and the number of missing ones.

    The former are polygons that a person reshaped, and results of splitting and copying.

    Args:
        database: A GeoPackage of rscd; without the record, none is reported.
        geometry: Name of the layer's geometry column.
    """
    noted = _noted(database)
    if noted is None:
        return frozenset(), 0
    now = dict(_outlines(database, geometry))
    edited = frozenset(number for number, checksum in now.items() if noted.get(number) != checksum)
    return edited, len(noted.keys() - now.keys())


def _outlines(database: sqlite3.Connection, geometry: str) -> list[tuple[int, int]]:
    """Number and checksum of each polygon: of its WKB, without the header, which differs between programs."""
    rows = database.execute(f'SELECT rowid, "{geometry}" FROM changes WHERE "{geometry}" NOT NULL')
    return [(number, zlib.crc32(memoryview(blob)[header_size(blob) :])) for number, blob in rows]


def _noted(database: sqlite3.Connection) -> dict[int, int] | None:
    """The record; None if there is none."""
    try:
        query = "SELECT metadata FROM gpkg_metadata WHERE md_standard_uri = ?"
        (text,) = database.execute(query, (URI,)).fetchone() or ("",)
        raw = zlib.decompress(base64.b64decode(text))
        return dict(np.frombuffer(raw, _NUMBERS).reshape(2, -1).T.tolist())
    except (sqlite3.Error, ValueError, zlib.error):  # no such table, or other text
        return None
