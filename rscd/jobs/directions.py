"""How many changes appeared, vanished, were replaced or are unclear, and their area, counted in a GeoPackage."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from rscd.vectorize.attributes import DIRECTIONS

Directions = Mapping[str, tuple[int, float]]
"""Direction -> how many changes, and their area in m2; only those that occur, in the order of ``DIRECTIONS``."""


def directions_of(path: Path) -> Directions:
    """Those of all changes of a file; empty where the model has no presence maps."""
    return _counted(path, "''").get("", {})


def directions_by_pair(path: Path) -> dict[str, Directions]:
    """Pair -> its directions, of the summary of an archive."""
    return _counted(path, "pair_id")


def as_columns(found: Directions | None) -> dict[str, float]:
    """Number and area as the layer ``pairs`` has them, two columns a direction; nothing where none is known."""
    if found is None:
        return {}
    counted = {way: found.get(way, (0, 0.0)) for way in DIRECTIONS}
    return {way: n for way, (n, _) in counted.items()} | {f"{way}_m2": area for way, (_, area) in counted.items()}


def _counted(path: Path, by: str) -> dict[str, Directions]:
    sql = f"SELECT {by}, direction, count(*), total(area_m2) FROM changes WHERE direction IS NOT NULL GROUP BY 1, 2"
    with closing(sqlite3.connect(path)) as database:
        there = {name for _, name, *_ in database.execute("PRAGMA table_info(changes)")}
        rows = (
            database.execute(sql).fetchall() if "direction" in there else []
        )  # an older version has no such column
    found: dict[str, dict[str, tuple[int, float]]] = {}
    for way in DIRECTIONS:
        for pair, _, count, area in (row for row in rows if row[1] == way):
            found.setdefault(str(pair), {})[way] = count, area
    return dict(found)
