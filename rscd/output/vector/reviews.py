"""A person's review of the layer ``changes``, carried over when the file is written again.

A review is what a person entered: a value in ``review``, values in additional columns, drawn polygons. It is
copied to the new polygon at the same place; if there is none, it is kept in the layer ``reviewed_before``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely

from rscd.core.errors import UsageError, several
from rscd.core.paths import held
from rscd.output.vector.sqlite import blob_of, edited_outlines, open_geopackage, shape_of
from rscd.output.vector.style import reviewed_before_qml
from rscd.vectorize.attributes import columns as all_columns
from rscd.vectorize.attributes import drawn_values

SAME_IOU = 0.5
"""Minimum intersection over union of polygons at the same place."""
SAME_SHARE = 0.5
"""Without such a polygon: minimum shared part of the smaller of two polygons at the same place."""
LAYER, BEFORE = "changes", "reviewed_before"
OURS = (LAYER, BEFORE, "extent", "pairs", "layer_styles")
"""Tables that rscd writes."""
DISCARD = "move them to another file, or add --discard-reviews to drop everything that people added to this one"


_STYLE = (
    "f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML, styleSLD,"
    " useAsDefault, description, owner"
)


@dataclass(frozen=True)
class Carried:
    """What became of the reviews in the replaced file."""

    carried: int = 0
    """Reviews copied to the new polygon at the same place."""
    kept: int = 0
    """Reviews without a new polygon, or whose new polygon has another review: kept in the layer
    ``reviewed_before``."""
    drawn: int = 0
    """Polygons that people drew or reshaped where nothing was found; added to the layer ``changes``."""
    deleted: int = 0
    """Polygons that people deleted or merged: they may have been found again."""

    def __str__(self) -> str:
        parts = [f"{several(self.carried, 'review')} carried over"]
        if self.kept:
            parts.append(f"{self.kept:,} without a polygon now, kept in layer {BEFORE}")
        if self.drawn:
            parts.append(f"{several(self.drawn, 'drawn polygon')} kept")
        if self.deleted:
            parts.append(
                f"{several(self.deleted, 'polygon')} that people deleted or merged may be back: reject instead"
            )
        return "; ".join(parts)

    def __bool__(self) -> bool:
        return bool(self.carried or self.kept or self.drawn or self.deleted)


NONE = Carried()


@dataclass(frozen=True)
class _Review:
    """A polygon of the old file that a person edited."""

    values: dict[str, Any]
    """Column -> value, for columns that are carried over."""
    shape: Any
    """Its outline (shapely), in the new file's CRS."""
    drawn: bool
    """Whether a person drew it, or redrew its outline."""
    layer: str
    """``LAYER`` or ``BEFORE``."""


class Reviews:
    """The reviews in a GeoPackage that will be replaced.

    Args:
        database: The old file, locked; None if there is none.
        path: Its path.
        discard: Do not carry over any review.

    Raises:
        UsageError: It contains layers that people added, which would be lost.
    """

    def __init__(self, database: sqlite3.Connection | None, path: Path, *, discard: bool = False) -> None:
        self._database = None if discard or database is None or LAYER not in _tables(database) else database
        if self._database is not None and (others := sorted(_layers(self._database) - set(OURS))):
            problem = f"contains {several(len(others), 'layer')} that rscd did not make: {', '.join(others)}"
            raise UsageError(problem, path=path, remedy=DISCARD)

    def carry_into(self, path: Path) -> Carried:
        """Copy the old reviews to the polygons of a new GeoPackage that is not yet in place.

        Raises:
            sqlite3.Error: It cannot be written.
        """
        if self._database is None:
            return Carried()
        with closing(open_geopackage(path)) as new, new:
            _copy_styles(self._database, new)
            carried = _carry(self._found(new), new)
            return replace(carried, deleted=self._edited[1])

    @cached_property
    def _edited(self) -> tuple[frozenset[int], int]:
        """Polygons that a person reshaped or copied, and the number of deleted ones."""
        assert self._database is not None
        return edited_outlines(self._database, _geometry(self._database, LAYER))

    def _found(self, new: sqlite3.Connection) -> list[_Review]:
        """All reviews of the old file: first those of polygons, then those kept from earlier files."""
        assert self._database is not None
        own = set(_columns(new, LAYER))
        found: list[_Review] = []
        for layer in (LAYER, BEFORE):
            if layer in _tables(self._database) and "review" in _columns(self._database, layer):
                reshaped = self._edited[0] if layer == LAYER else frozenset[int]()
                found += _read(self._database, layer, own, _way(self._database, new, layer), reshaped)
        return found


@contextmanager
def reviews_of(path: Path, *, discard: bool = False) -> Iterator[Reviews]:
    """The reviews in the file at ``path``, which is locked until the block ends.

    Raises:
        OutputError: Another program has it open.
        UsageError: It contains layers that people added.
    """
    if path.suffix.lower() != ".gpkg":
        yield Reviews(None, path)
        return
    with held(path) as database:
        yield Reviews(database, path, discard=discard)


def check_reviews(path: Path, *, discard: bool = False) -> None:
    """Refuse, before any work, to replace a file whose reviews could not be carried over.

    Raises:
        OutputError: Another program has it open.
        UsageError: It contains layers that people added, or reviews and is not a GeoPackage.
    """
    if discard or not path.is_file():
        return
    if path.suffix.lower() == ".gpkg":
        with reviews_of(path):
            return
    import pyogrio

    try:
        answers = pyogrio.read_dataframe(path, columns=["review"], read_geometry=False)["review"]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, KeyError, ValueError):
        return  # not written by rscd: covered by --overwrite
    if count := int((answers.fillna("") != "").sum()):
        problem = f"contains {several(count, 'review')}, which can only be carried over in a GeoPackage"
        raise UsageError(problem, path=path, remedy="move it away, or add --discard-reviews")


def _tables(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _layers(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in database.execute("SELECT table_name FROM gpkg_contents")}


def _columns(database: sqlite3.Connection, layer: str) -> dict[str, str]:
    """Column -> declared type, without key and geometry."""
    found = database.execute(f'PRAGMA table_info("{layer}")').fetchall()
    return {name: kind for _, name, kind, _, _, key in found if not key and name != _geometry(database, layer)}


def _geometry(database: sqlite3.Connection, layer: str) -> str:
    """Name of a layer's geometry column: other programs may have rewritten it."""
    query = "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?"
    (name,) = database.execute(query, (layer,)).fetchone() or ("geometry",)
    return str(name)


def _srs(database: sqlite3.Connection, layer: str) -> tuple[int, str]:
    """Number and WKT of a layer's CRS."""
    query = (
        "SELECT s.srs_id, s.definition FROM gpkg_geometry_columns g JOIN gpkg_spatial_ref_sys s"
        " ON s.srs_id = g.srs_id WHERE g.table_name = ?"
    )
    number, text = database.execute(query, (layer,)).fetchone()
    return int(number), str(text)


def _way(old: sqlite3.Connection, new: sqlite3.Connection, layer: str) -> pyproj.Transformer | None:
    """Transformation from the CRS of an old layer to that of the new polygons; None if they are equal."""
    source, target = (pyproj.CRS.from_user_input(_srs(*place)[1]) for place in ((old, layer), (new, LAYER)))
    return None if source == target else pyproj.Transformer.from_crs(source, target, always_xy=True)


def _read(
    database: sqlite3.Connection,
    layer: str,
    own: set[str],
    way: pyproj.Transformer | None,
    reshaped: Collection[int],
) -> Iterator[_Review]:
    """The rows of a layer that a person edited; reshaped polygons count as drawn, unless they are rejected."""
    columns = _columns(database, layer)
    added = [name for name in columns if name not in own and not _is_ours(name)]
    touched = " OR ".join(f"coalesce(\"{name}\", '') <> ''" for name in ["review", *added])
    drawn = '"mean_probability" IS NULL' if "mean_probability" in columns else "0"
    geometry = f'"{_geometry(database, layer)}"'
    if reshaped:
        drawn += f" OR (rowid IN ({', '.join(map(str, reshaped))}) AND coalesce(review, '') <> 'rejected')"
    taken = [name for name in ("review", "id", "pair_id", "mean_probability", *added) if name in columns]
    listed = ", ".join(f'"{name}"' for name in taken)
    where = f"{geometry} NOT NULL AND ({touched} OR {drawn})"
    rows = database.execute(f'SELECT {geometry}, ({drawn}), {listed} FROM "{layer}" WHERE {where}')
    for blob, is_drawn, *values in rows:
        shape = shapely.make_valid(shape_of(blob))
        if way is not None:
            shape = shapely.transform(shape, lambda xy: np.stack(way.transform(xy[:, 0], xy[:, 1]), axis=1))
        if not shape.is_empty:
            yield _Review(dict(zip(taken, values, strict=True)), shape, bool(is_drawn), layer)


def _is_ours(name: str) -> bool:
    """Whether a column is written by rscd, in this run or another."""
    return name.startswith(("before_", "after_")) or name in {column.name for column in all_columns()}


@dataclass(frozen=True)
class _Match:
    fid: int
    iou: float
    shared: float
    """Shared area divided by the area of the smaller polygon, 0..1."""


def _carry(reviews: Sequence[_Review], new: sqlite3.Connection) -> Carried:
    """Copy each review to its destination."""
    pairs = "pair_id" in _columns(new, LAYER)
    matched = [(review, _partner(review, new, pairs=pairs)) for review in reviews]
    order = sorted(matched, key=lambda m: (m[0].layer == BEFORE, m[1] is None, -(m[1].iou if m[1] else 0.0)))
    taken: dict[int, dict[str, Any]] = {}
    kept: list[_Review] = []
    drawn: list[_Review] = []
    carried = 0
    for review, match in order:
        values = _carried_values(review)
        if match is None:
            (drawn if review.drawn and review.layer == LAYER else kept).append(review)
        elif not _agree(taken.setdefault(match.fid, values), values) or not _agree(_there(new, match.fid), values):
            kept.append(review)
        else:
            carried += review.layer == LAYER
            _update(new, match.fid, values)
            if review.drawn:  # the review is carried over; the outline that a person drew is also kept
                kept.append(review)
    _insert_drawn(new, drawn)
    if kept:
        _write_before(new, kept)
    lost = [review for review in kept if not review.drawn or review.layer == BEFORE]
    return Carried(carried, len(lost), len(drawn))


def _carried_values(review: _Review) -> dict[str, Any]:
    """Column -> value for a new polygon: the review, and values in a person's own columns."""
    values = {k: v for k, v in review.values.items() if k not in ("id", "pair_id", "mean_probability")}
    return values | {"review": values.get("review") or ("accepted" if review.drawn else "")}


def _agree(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return not one.get("review") or not other.get("review") or one["review"] == other["review"]


def _there(new: sqlite3.Connection, fid: int) -> dict[str, Any]:
    return {"review": new.execute(f'SELECT review FROM "{LAYER}" WHERE fid = ?', (fid,)).fetchone()[0]}


def _partner(review: _Review, new: sqlite3.Connection, *, pairs: bool) -> _Match | None:
    """The new polygon at the same place."""
    low_x, low_y, high_x, high_y = shapely.bounds(review.shape)
    same = " AND c.pair_id = :pair" if pairs else ""
    rows = new.execute(
        f'SELECT c.fid, c.geometry FROM "rtree_{LAYER}_geometry" r JOIN "{LAYER}" c ON c.fid = r.id'
        f" WHERE r.maxx >= :a AND r.minx <= :c AND r.maxy >= :b AND r.miny <= :d{same}",
        {"a": low_x, "b": low_y, "c": high_x, "d": high_y, "pair": review.values.get("pair_id")},
    )
    found = []
    for fid, blob in rows:
        other = shapely.make_valid(shape_of(blob))
        shared = review.shape.intersection(other).area
        if shared > 0:
            union, smaller = review.shape.area + other.area - shared, min(review.shape.area, other.area)
            found.append((shared, _Match(fid, shared / union, shared / smaller)))
    same_place = [match for _, match in found if match.iou >= SAME_IOU]
    if same_place:
        return max(same_place, key=lambda match: match.iou)
    _, largest = max(found, key=lambda pair: pair[0], default=(0.0, None))
    return largest if largest is not None and largest.shared > SAME_SHARE else None


def _update(new: sqlite3.Connection, fid: int, values: dict[str, Any]) -> None:
    given = {name: value for name, value in values.items() if value not in (None, "")}
    if given:
        _add_columns(new, LAYER, given)
        listed = ", ".join(f'"{name}" = ?' for name in given)
        new.execute(f'UPDATE "{LAYER}" SET {listed} WHERE fid = ?', (*given.values(), fid))


def _add_columns(new: sqlite3.Connection, layer: str, values: dict[str, Any]) -> None:
    kinds = {bool: "BOOLEAN", int: "INTEGER", float: "REAL", bytes: "BLOB"}
    there = _columns(new, layer)
    for name, value in values.items():
        if name not in there:
            new.execute(f'ALTER TABLE "{layer}" ADD COLUMN "{name}" {kinds.get(type(value), "TEXT")}')


def _insert_drawn(new: sqlite3.Connection, drawn: Sequence[_Review]) -> None:
    """Add the polygons that people drew, with number, area and location; values from images stay null."""
    number, text = _srs(new, LAYER)
    (last,) = new.execute(f'SELECT coalesce(max("id"), 0) FROM "{LAYER}"').fetchone()
    for count, review in enumerate(drawn, start=1):
        values = {
            **drawn_values(review.shape, text),
            **{name: value for name, value in _carried_values(review).items() if value is not None},
            "id": last + count,
        }
        if review.values.get("pair_id") is not None:
            values["pair_id"] = review.values["pair_id"]
        _add_columns(new, LAYER, values)
        _insert(new, LAYER, values, blob_of(review.shape, number))


def _insert(new: sqlite3.Connection, layer: str, values: dict[str, Any], blob: bytes) -> None:
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join("?" * len(values))
    new.execute(f'INSERT INTO "{layer}" (geometry, {names}) VALUES (?, {marks})', (blob, *values.values()))


def _write_before(new: sqlite3.Connection, kept: Sequence[_Review]) -> None:
    """Write the layer ``reviewed_before``: reviews without a polygon now."""
    number, _ = _srs(new, LAYER)
    new.execute(
        f'CREATE TABLE "{BEFORE}" (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geometry GEOMETRY,'
        ' "id" MEDIUMINT, "review" TEXT, "mean_probability" REAL)'
    )
    boxes = np.array([shapely.bounds(review.shape) for review in kept])
    new.execute(
        "INSERT INTO gpkg_contents"
        " (table_name, data_type, identifier, description, min_x, min_y, max_x, max_y, srs_id)"
        " VALUES (?, 'features', ?, 'Reviews that have no polygon now', ?, ?, ?, ?, ?)",
        (BEFORE, BEFORE, *boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist(), number),
    )
    new.execute("INSERT INTO gpkg_geometry_columns VALUES (?, 'geometry', 'GEOMETRY', ?, 0, 0)", (BEFORE, number))
    for review in kept:
        values = {name: value for name, value in review.values.items() if value is not None}
        if review.drawn:  # so that next time they are recognised as drawn, also if they were reshaped
            values = {**values, "review": values.get("review") or "accepted"}
            values.pop("mean_probability", None)
        _add_columns(new, BEFORE, values)
        _insert(new, BEFORE, values, blob_of(review.shape, number))
    new.execute(
        f"INSERT INTO layer_styles ({_STYLE}) VALUES ('', '', ?, 'geometry', ?, ?, '', 1, '', '')",
        (BEFORE, BEFORE, reviewed_before_qml()),
    )


def _copy_styles(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """Copy the styles that people saved under their own names; their default stays the default."""
    if "layer_styles" not in _tables(old):
        return
    for row in old.execute(f"SELECT {_STYLE} FROM layer_styles WHERE styleName <> f_table_name"):
        if row[7]:
            new.execute("UPDATE layer_styles SET useAsDefault = 0 WHERE f_table_name = ?", (row[2],))
        new.execute(f"INSERT INTO layer_styles ({_STYLE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
