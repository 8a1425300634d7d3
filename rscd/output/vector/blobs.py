"""Geometries as a GeoPackage stores them, read and written with SQLite alone."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import shapely


def open_geopackage(path: Path) -> sqlite3.Connection:
    """Open a GeoPackage for writing, with the functions that the triggers of its spatial index call."""
    database = sqlite3.connect(path)
    bounds = ("MinX", 0), ("MinY", 1), ("MaxX", 2), ("MaxY", 3)
    for name, i in bounds:
        database.create_function(f"ST_{name}", 1, lambda blob, i=i: float(shapely.bounds(shape_of(blob))[i]))
    database.create_function("ST_IsEmpty", 1, lambda blob: int(blob is None or shape_of(blob).is_empty))
    return database


def shape_of(blob: bytes) -> Any:  # noqa: ANN401 - shapely has no types
    """The geometry in a GeoPackage's binary: a header, then WKB."""
    return shapely.from_wkb(blob[header_size(blob) :])


def blob_of(shape: Any, srs_id: int) -> bytes:  # noqa: ANN401
    """A GeoPackage's binary, without an envelope."""
    empty = 0x10 if shape.is_empty else 0
    return b"GP\0" + bytes([1 | empty]) + srs_id.to_bytes(4, "little", signed=True) + bytes(shapely.to_wkb(shape))


def header_size(blob: bytes) -> int:
    """Bytes before the WKB in a GeoPackage's binary (clause 2.1.3 of the standard)."""
    return 8 + (0, 32, 48, 48, 64)[(blob[3] >> 1) & 7]
