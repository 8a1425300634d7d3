"""The summary: one GeoPackage with all changes and all pairs of an archive.

Changes are copied from the pairs' GeoPackages batch by batch. Reviews in an older summary are carried over, as in a
pair's own file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyogrio
import pyproj
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from rscd.core.errors import OutputError, RscdError
from rscd.core.publish import Publication
from rscd.jobs.job import CHANGES, REPORT
from rscd.jobs.ledger import Entry
from rscd.output.vector.geopackage import BATCH_FEATURES, FeatureStream, add_styles, bands_of, write_layer
from rscd.output.vector.reviews import Carried, reviews_of
from rscd.output.vector.sqlite import note_outlines
from rscd.output.vector.style import changes_qml, pairs_qml
from rscd.scene.metadata import WGS84, read_footprint
from rscd.vectorize.attributes import DIRECTIONS, GEOMETRY_METADATA, REVIEW_STATES, columns
from rscd.vectorize.tracer import FEATURE_SCHEMA

READERS = 8
"""Number of headers read at once."""
UNREADABLE = (OSError, DataSourceError, DataLayerError, pa.ArrowException, pyogrio.errors.GeometryError)
"""Errors of a pair's GeoPackage that is missing or damaged."""
T = TypeVar("T")

_PAIRS = pa.schema(
    [
        *((name, pa.string()) for name in ("pair_id", "status", "before", "after", "error", "report", "ended")),
        ("polygons", pa.int64()),
        *((name, pa.float64()) for name in ("changed_m2", "observed_km2", "not_observable_km2", "seconds")),
        *((name, pa.string()) for name in ("verdict", "model")),
        *((name, pa.float64()) for name in ("valid_share", "shift_px")),
        *((way, pa.int64()) for way in DIRECTIONS),
        *((f"{way}_m2", pa.float64()) for way in DIRECTIONS),
        pa.field("geometry", pa.binary(), metadata=GEOMETRY_METADATA),
    ]
)


@dataclass(frozen=True)
class Summary:
    """Result of writing a summary."""

    unreadable: dict[str, str]
    """Pairs whose GeoPackage cannot be read, and why: they are left out."""
    reviews: Carried
    """What became of the reviews in the replaced summary."""


class _Unreadable(Exception):
    """A pair's GeoPackage cannot be read."""

    def __init__(self, pair: str, error: Exception) -> None:
        self.pair, self.why = pair, " ".join(str(error).split())


def write_summary(path: Path, folder: Path, entries: Sequence[Entry], *, discard_reviews: bool = False) -> Summary:
    """Write layers ``changes`` and ``pairs``, check them, carry reviews over, and put the file in place.

    Both are in the CRS that all done pairs share, else in WGS 84. A pair whose outputs cannot be read is left out.

    Args:
        path: The GeoPackage.
        folder: Folder of the archive, with one folder per pair.
        entries: The pairs.
        discard_reviews: Drop reviews and drawn polygons of the existing summary.

    Raises:
        OutputError: It cannot be written, or another program has it open.
        UsageError: It contains layers that people added.
    """
    unreadable: dict[str, str] = {}
    while True:
        try:
            readable = [
                entry if entry.id not in unreadable else replace(entry, state="failed", error=unreadable[entry.id])
                for entry in entries
            ]
            return Summary(unreadable, _write(path, folder, readable, discard_reviews=discard_reviews))
        except _Unreadable as error:
            problem = f"{folder / error.pair / CHANGES}: cannot be read ({error.why})"
            unreadable[error.pair] = f"{problem} - move the pair's folder away, and run again"


def _write(path: Path, folder: Path, entries: Sequence[Entry], *, discard_reviews: bool) -> Carried:
    done = [entry for entry in entries if entry.state == "done"]
    known = {entry.id: _of(entry, _info, folder) for entry in done}
    systems = {pair: str(info["crs"]) for pair, info in known.items()}
    crs = systems[done[0].id] if len(set(systems.values())) == 1 else WGS84
    kinds = {tuple(known[entry.id]["fields"]): entry for entry in done}  # e.g. with near infrared
    schema = _joined([_of(entry, _schema, folder) for entry in kinds.values()])
    try:
        with Publication() as publication:
            temporary = publication.beside(path)
            changes = FeatureStream(_changes(folder, done, systems, crs, schema), schema)
            with changes.reader() as stream:
                write_layer(temporary, "changes", "Polygon", crs, stream)
            ways = directions_by_pair(temporary)
            write_layer(temporary, "pairs", "MultiPolygon", crs, _pairs(folder, entries, systems, crs, ways))
            look = changes_qml(columns(bands_of(schema.names)), REVIEW_STATES)
            add_styles(temporary, {"changes": look, "pairs": pairs_qml()})
            note_outlines(temporary)
            _check(temporary, {"changes": changes.features, "pairs": len(entries)})
            with reviews_of(path, discard=discard_reviews) as reviews:
                carried = reviews.carry_into(temporary)
                publication.publish()
            return carried
    except (OSError, DataSourceError, DataLayerError, sqlite3.Error, pa.ArrowException) as error:
        remedy = "check that the folder is writable and has free space, then run again"
        raise OutputError(f"could not be written ({error})", path=path, remedy=remedy) from error


def _of(entry: Entry, read: Callable[[Path], T], folder: Path) -> T:
    """Data read from a pair's GeoPackage.

    Raises:
        _Unreadable: It cannot be read.
    """
    try:
        return read(folder / entry.id / CHANGES)
    except UNREADABLE as error:
        raise _Unreadable(entry.id, error) from error


def _info(path: Path) -> dict[str, Any]:
    return dict(pyogrio.read_info(path, layer="changes"))


def _joined(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """A schema with the columns of all schemas, the geometry last."""
    widest = max(schemas, key=len, default=_with_pair(FEATURE_SCHEMA))
    more = {field.name: field for schema in schemas for field in schema if field.name not in widest.names}
    return pa.schema([*list(widest)[:-1], *more.values(), widest.field(len(widest) - 1)])


def _with_pair(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field("pair_id", pa.string()), *schema])


def _schema(path: Path) -> pa.Schema:
    """Columns of a pair's changes, with ``pair_id`` first."""
    with pyogrio.open_arrow(path, layer="changes", use_pyarrow=True) as (_, reader):
        fields = [field.remove_metadata() for field in reader.schema if field.name != "geometry"]
    return _with_pair(pa.schema([*fields, pa.field("geometry", pa.binary(), metadata=GEOMETRY_METADATA)]))


def _changes(
    folder: Path, done: Sequence[Entry], systems: dict[str, str], crs: str, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """All pairs' changes, in their order on disk.

    Raises:
        _Unreadable: Changes of a pair cannot be read.
    """
    for entry in done:
        try:
            with pyogrio.open_arrow(
                folder / entry.id / CHANGES, layer="changes", use_pyarrow=True, batch_size=BATCH_FEATURES
            ) as (_, reader):
                for batch in reader:
                    found = {name: batch[name] for name in batch.schema.names}
                    found["pair_id"] = pa.array([entry.id] * len(batch), pa.string())
                    found["geometry"] = _carried(batch["geometry"], systems[entry.id], crs)
                    empty = pa.nulls(len(batch))
                    arrays = [found.get(field.name, empty).cast(field.type) for field in schema]
                    yield pa.RecordBatch.from_arrays(arrays, schema=schema)
        except UNREADABLE as error:
            raise _Unreadable(entry.id, error) from error


def _carried(geometry: pa.Array, source: str, target: str) -> pa.Array:
    """WKB in another CRS."""
    if source == target:
        return geometry
    shapes = shapely.from_wkb(geometry.to_numpy(zero_copy_only=False))
    return pa.array(shapely.to_wkb(_moved(shapes, source, target)), pa.binary())


def _moved(shapes: Any, source: str, target: str) -> Any:  # noqa: ANN401 - shapely has no types
    if source == target:
        return shapes
    way = _transformer(source, target)
    return shapely.transform(shapes, lambda xy: np.stack(way.transform(xy[:, 0], xy[:, 1]), axis=1))


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


def _pairs(
    folder: Path, entries: Sequence[Entry], systems: dict[str, str], crs: str, ways: Mapping[str, Directions]
) -> pa.Table:
    """All pairs: their observed area, or for unfinished ones the outline of the before image."""

    def outline(entry: Entry) -> bytes | None:
        if entry.id in systems:
            return _of(entry, lambda path: _observed(path, systems[entry.id], crs), folder)
        try:
            return _multi(_moved(read_footprint(Path(entry.before)).outline, WGS84, crs))
        except RscdError:
            return None

    with ThreadPoolExecutor(READERS) as pool:
        outlines = list(pool.map(outline, entries))
    rows = [
        {
            "pair_id": entry.id,
            "status": "pending" if entry.state == "running" else entry.state,
            **{name: getattr(entry, name) for name in ("before", "after", "error", "ended")},
            "report": f"{entry.id}/{REPORT}" if (folder / entry.id / REPORT).is_file() else "",
            "polygons": entry.polygons,
            **{name: getattr(entry, name) for name in _PAIRS.names[8:16]},
            **as_columns(ways.get(entry.id)),
            "geometry": shape,
        }
        for entry, shape in zip(entries, outlines, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=_PAIRS)


def _observed(path: Path, source: str, target: str) -> bytes | None:
    _, table = pyogrio.read_arrow(path, layer="extent", columns=[])
    shapes = shapely.from_wkb(table["geometry"].to_numpy())
    return _multi(_moved(shapes[0], source, target)) if len(shapes) else None


def _multi(shape: Any) -> bytes | None:  # noqa: ANN401
    parts = [part for part in shapely.get_parts(shape) if part.geom_type == "Polygon" and not part.is_empty]
    return bytes(shapely.to_wkb(shapely.multipolygons(parts))) if parts else None


def _check(path: Path, expected: dict[str, int]) -> None:
    with closing(sqlite3.connect(path)) as database:
        verdict = database.execute("PRAGMA quick_check").fetchone()[0]
        if verdict != "ok":
            raise OSError(f"SQLite's integrity check failed: {verdict}")
        for layer, count in expected.items():
            found = database.execute(f'SELECT count(*) FROM "{layer}"').fetchone()[0]
            if found != count:
                raise OSError(f"layer {layer} holds {found} features of {count}")


Directions = Mapping[str, tuple[int, float]]
"""Direction -> number of changes and their area in m2; only existing directions, in the order of ``DIRECTIONS``."""


def directions_of(path: Path) -> Directions:
    """Directions of all changes in a file; empty if the model has no presence head."""
    return _counted(path, "''").get("", {})


def directions_by_pair(path: Path) -> dict[str, Directions]:
    """Pair -> its directions, in the summary of an archive."""
    return _counted(path, "pair_id")


def as_columns(found: Directions | None) -> dict[str, float]:
    """Number and area as columns of the layer ``pairs``, two per direction; empty if none is known."""
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
        )  # files of older versions have no such column
    found: dict[str, dict[str, tuple[int, float]]] = {}
    for way in DIRECTIONS:
        for pair, _, count, area in (row for row in rows if row[1] == way):
            found.setdefault(str(pair), {})[way] = count, area
    return dict(found)
