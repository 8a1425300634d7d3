"""The summary: one GeoPackage of all changes of an archive, and of all its pairs.

Changes stream through from the pairs' GeoPackages, a batch at a time. What was reviewed in an older summary is kept
for pairs that were not run anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyogrio
import pyproj
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from rscd.archive.job import CHANGES, REPORT
from rscd.archive.ledger import Entry
from rscd.errors import OutputError, RscdError
from rscd.output.evidence import GEOMETRY_METADATA
from rscd.output.features import BATCH_FEATURES, FeatureStream
from rscd.output.geopackage import add_styles, write_layer
from rscd.output.polygons import FEATURE_SCHEMA
from rscd.output.publish import publishing
from rscd.output.style import changes_qml, pairs_qml
from rscd.scene.footprint import WGS84, read_footprint

READERS = 8
"""Headers that are read at once."""
Reviews = dict[tuple[str, int], str]

_PAIRS = pa.schema(
    [
        *((name, pa.string()) for name in ("pair_id", "status", "before", "after", "error", "report", "ended")),
        ("polygons", pa.int64()),
        *((name, pa.float64()) for name in ("changed_m2", "observed_km2", "not_observable_km2", "seconds")),
        pa.field("geometry", pa.binary(), metadata=GEOMETRY_METADATA),
    ]
)


def write_summary(path: Path, folder: Path, entries: Sequence[Entry]) -> None:
    """Write layers ``changes`` and ``pairs``, check them, and put the file in place.

    Both are in the CRS that all done pairs share, else in WGS 84.

    Args:
        path: The GeoPackage.
        folder: The archive's, with a folder a pair.
        entries: The pairs.

    Raises:
        OutputError: It cannot be written, or a pair's GeoPackage cannot be read.
    """
    done = [entry for entry in entries if entry.state == "done"]
    try:
        known = {entry.id: pyogrio.read_info(folder / entry.id / CHANGES, layer="changes") for entry in done}
        systems = {pair: str(info["crs"]) for pair, info in known.items()}
        crs = systems[done[0].id] if len(set(systems.values())) == 1 else WGS84
        reviews = _reviews(path, done)
        # A pair with near infrared has all columns of one without, and two more.
        widest = max(known, key=lambda pair: len(known[pair]["fields"]), default=None)
        schema = _with_pair(FEATURE_SCHEMA) if widest is None else _schema(folder / widest / CHANGES)
        batches = _changes(folder, done, systems, crs, schema, reviews)
        with publishing(path) as temporary:
            with FeatureStream(batches, schema).reader() as stream:
                write_layer(temporary, "changes", "Polygon", crs, stream)
            write_layer(temporary, "pairs", "MultiPolygon", crs, _pairs(folder, entries, systems, crs))
            add_styles(temporary, {"changes": changes_qml(), "pairs": pairs_qml()})
            _check(temporary, {"changes": sum(entry.polygons for entry in done), "pairs": len(entries)})
    except (OSError, DataSourceError, DataLayerError, sqlite3.Error, pa.ArrowException) as error:
        remedy = "see that the folder is writable and has room and the pairs' outputs are whole, then run again"
        raise OutputError(f"could not be written ({error})", path=path, remedy=remedy) from error


def _with_pair(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field("pair_id", pa.string()), *schema])


def _schema(path: Path) -> pa.Schema:
    """Columns of a pair's changes, ``pair_id`` before them."""
    with pyogrio.open_arrow(path, layer="changes", use_pyarrow=True) as (_, reader):
        fields = [field.remove_metadata() for field in reader.schema if field.name != "geometry"]
    return _with_pair(pa.schema([*fields, pa.field("geometry", pa.binary(), metadata=GEOMETRY_METADATA)]))


def _changes(
    folder: Path, done: Sequence[Entry], systems: dict[str, str], crs: str, schema: pa.Schema, reviews: Reviews
) -> Iterator[pa.RecordBatch]:
    """All pairs' changes, as they lie on disk."""
    for entry in done:
        path = folder / entry.id / CHANGES
        options = {"layer": "changes", "use_pyarrow": True, "batch_size": BATCH_FEATURES}
        with pyogrio.open_arrow(path, **options) as (_, reader):
            for batch in reader:
                columns = {name: batch[name] for name in batch.schema.names}
                columns["pair_id"] = pa.array([entry.id] * len(batch), pa.string())
                columns["review"] = _reviewed(entry.id, batch, reviews)
                columns["geometry"] = _carried(batch["geometry"], systems[entry.id], crs)
                empty = pa.nulls(len(batch))
                yield pa.RecordBatch.from_arrays(
                    [columns.get(field.name, empty).cast(field.type) for field in schema], schema=schema
                )


def _reviewed(pair: str, batch: pa.RecordBatch, reviews: Reviews) -> pa.Array:
    if not reviews:
        return batch["review"]
    told = zip(batch["id"].to_pylist(), batch["review"].to_pylist(), strict=True)
    return pa.array([reviews.get((pair, number)) or review for number, review in told], pa.string())


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


def _pairs(folder: Path, entries: Sequence[Entry], systems: dict[str, str], crs: str) -> pa.Table:
    """All pairs: where each was observed, or of one that is not done, where its before image lies."""

    def outline(entry: Entry) -> bytes | None:
        if entry.id in systems:
            return _observed(folder / entry.id / CHANGES, systems[entry.id], crs)
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
            **{name: getattr(entry, name) for name in _PAIRS.names[8:12]},
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


def _reviews(path: Path, done: Sequence[Entry]) -> Reviews:
    """What was reviewed in the summary that is there, of pairs that are still as they were."""
    if not path.is_file():
        return {}
    ended = {entry.id: entry.ended for entry in done}
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        try:
            same = {
                pair
                for pair, when in database.execute("SELECT pair_id, ended FROM pairs")
                if ended.get(pair) == when
            }
            found = database.execute("SELECT pair_id, id, review FROM changes WHERE review <> ''")
            return {(pair, number): review for pair, number, review in found if pair in same}
        except sqlite3.OperationalError:  # of another make
            return {}


def _check(path: Path, expected: dict[str, int]) -> None:
    with closing(sqlite3.connect(path)) as database:
        verdict = database.execute("PRAGMA quick_check").fetchone()[0]
        if verdict != "ok":
            raise OSError(f"SQLite's check of it failed: {verdict}")
        for layer, count in expected.items():
            found = database.execute(f'SELECT count(*) FROM "{layer}"').fetchone()[0]
            if found != count:
                raise OSError(f"layer {layer} holds {found} features of {count}")
