"""The pairs of a manifest: rows of a table, each checked before anything runs, and the paths that they may use.

A table is CSV, GeoJSON, GeoPackage or GeoParquet; its values are read as text.
"""

from __future__ import annotations

import csv
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import lru_cache
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
"""File name suffixes of a manifest."""
ALIKE = 0.8
"""A column name at least this similar to one of OPTIONAL (0..1, ``difflib``) is treated as a typing error."""
SQLITE = b"SQLite format 3\0"


class Row(NamedTuple):
    """A row of a manifest."""

    line: int
    """Line of a CSV file, counted from 1; else number of the feature, from 1."""
    values: dict[str, str]
    """Column -> value, only columns of REQUIRED and OPTIONAL; empty text if there is no value."""


def table_rows(path: Path) -> Iterator[Row]:
    """Read a table's rows in order.

    Raises:
        DataError: The format is unknown, a column is missing, or a row does not fit the header.
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
        raise DataError(f"cannot be read: {error}", path=path, remedy="check that it is complete") from error


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Parse a JSON file.

    Raises:
        DataError: It is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise DataError(f"is not JSON: {error}", path=path, remedy="check that it is complete") from error


def feature_rows(path: Path, content: Any) -> Iterator[Row]:  # noqa: ANN401
    """The rows of a GeoJSON FeatureCollection: its features' properties."""
    features = content.get("features") if isinstance(content, dict) else None
    if not isinstance(features, list):
        remedy = "give a FeatureCollection, a STAC ItemCollection or a STAC catalog"
        raise DataError("is JSON, but not a manifest", path=path, remedy=remedy)
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
                raise DataError("line 1: a column is named twice", path=path, remedy="name each column once")
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(names):
                    problem = f"line {reader.line_num}: {len(cells)} values for {len(names)} columns"
                    raise DataError(problem, path=path, remedy="quote values that contain commas")
                yield Row(reader.line_num, _texts(dict(zip(names, cells, strict=True))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"is not CSV in UTF-8: {error}", path=path, remedy="save it as CSV, UTF-8") from error


def _geopackage(path: Path) -> pa.Table:
    with path.open("rb") as file:
        if file.read(len(SQLITE)) != SQLITE:
            raise DataError("is not a GeoPackage", path=path, remedy="check that it is complete")
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
    """The known columns of the table; refuses missing and misspelled ones."""
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
            remedy = f"rename it to {meant[0]} if that is meant, else to a less similar name"
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


REMOTE = re.compile(r"(https?|s3)://[^/]", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_ANYWHERE = "keep files below the manifest's folder, or add --allow-remote"


class Root:
    """The folder that a manifest's files must be in.

    Args:
        folder: The folder.
        allow_remote: Also allow absolute paths, paths out of the folder, and ``https://`` and ``s3://`` addresses.
    """

    def __init__(self, folder: Path, *, allow_remote: bool = False) -> None:
        self.folder, self.allow_remote = Path(os.path.realpath(folder)), allow_remote
        self._real = lru_cache(maxsize=4096)(os.path.realpath)

    def resolve(self, href: str, base: Path | None = None, *, local: bool = False) -> Path:
        """The file or address that a reference means; links are resolved, so that none leads out of the folder.

        Args:
            href: Reference in the manifest.
            base: Folder that it is relative to; default: the root.
            local: Refuse addresses even with ``allow_remote``.

        Raises:
            DataError: It is not allowed.
        """
        if not href.isprintable():
            raise DataError(f"{href!r} contains control characters", remedy="write a plain path")
        if href.lower().startswith("/vsi"):
            raise DataError(f"{href!r} is a name for GDAL, not a path", remedy="use a path, https:// or s3://")
        if _SCHEME.match(href):
            if local or not REMOTE.match(href):
                raise DataError(f"{href!r} is an address of an unsupported kind", remedy="use a path")
            if not self.allow_remote:
                raise DataError(f"{href!r} is an address", remedy=_ANYWHERE)
            return Path(href)
        if Path(href).is_absolute() and not self.allow_remote:
            raise DataError(f"{href!r} is an absolute path", remedy=_ANYWHERE)
        written = (base or self.folder) / href
        real = Path(self._real(written.parent)) / written.name
        if written.name == ".." or real.is_symlink():
            real = Path(os.path.realpath(real))
        if not self.allow_remote and not real.is_relative_to(self.folder):
            raise DataError(f"{href!r} leads out of {self.folder}", remedy=_ANYWHERE)
        return real


MOST_NAMED = 5
"""Maximum number of further refused lines that a message names."""
_SAFE_ID = re.compile(r"\w[\w.-]{0,119}")
OWN_FILES = ("ledger.sqlite", "ledger.lock", "summary.gpkg", "index.html", "manifest.csv")
"""Names of other files in the archive's folder."""
OWN_ENDINGS = ("", "-wal", "-shm", "-journal", ".rscd")
"""Suffixes that SQLite and a run add to such names."""


@dataclass(frozen=True)
class ManifestPair:
    """One pair of an archive."""

    id: str
    """Name of its folder."""
    before: Path
    """Absolute path of the earlier date, or its address."""
    after: Path
    """The same for the later date."""
    aoi: Path | None = None
    """Absolute path of a vector file: its area of interest."""
    threshold: float | None = None
    """Its threshold, 0..1."""
    model: str = ""
    """Name of an embedded model, or path of a checkpoint; empty: the model of all pairs."""
    dates: tuple[datetime | None, datetime | None] = (None, None)
    """Acquisition times of the images, UTC, if the manifest gives them."""

    @property
    def problem(self) -> str:
        """Why it cannot have a folder; empty if it can."""
        if folded(self.id) in {f"{name}{ending}" for name in OWN_FILES for ending in OWN_ENDINGS}:
            return f"id {self.id!r} is the name of a file of the archive - give the pair another id"
        return ""


@dataclass(frozen=True)
class Manifest:
    """All pairs, in order; ids are unique and safe folder names."""

    pairs: tuple[ManifestPair, ...]
    """At least one."""
    notes: tuple[str, ...] = field(default=())
    """Entries that were left out, and why."""


def checked(path: Path, rows: Iterable[Row], root: Root) -> Manifest:
    """Turn rows into pairs; if any is wrong, refuse the manifest and name the first.

    Raises:
        DataError: As ``read_manifest``.
    """
    pairs: list[ManifestPair] = []
    taken: dict[str, int] = {}
    wrong: list[tuple[int, DataError]] = []
    for row in rows:
        try:
            pair = _pair(row, root)
            first = taken.setdefault(folded(pair.id), row.line)
            if first != row.line:
                raise DataError(f"id {pair.id!r} is also that of line {first}", remedy="give each pair its own id")
            pairs.append(pair)
        except DataError as error:
            wrong.append((row.line, error))
    if wrong:
        line, first_error = wrong[0]
        more = [str(number) for number, _ in wrong[1:]]
        also = f" (and {len(more)} more: line {', '.join(more[:MOST_NAMED])}{' ...' * (len(more) > MOST_NAMED)})"
        raise DataError(
            f"line {line}: {first_error.problem}{also * bool(more)}", path=path, remedy=first_error.remedy
        )
    if not pairs:
        raise DataError("contains no pair", path=path, remedy="give one per line: id,before,after")
    return Manifest(tuple(pairs))


def folded(name: str) -> str:
    """A name normalised for comparison on file systems that ignore case."""
    return unicodedata.normalize("NFC", name).casefold()


def safe_id(text: str) -> str:
    """A safe id made from any text."""
    return (re.sub(r"[^\w.-]+", "_", text).strip("._-") or "pair")[:120]


def _pair(row: Row, root: Root) -> ManifestPair:
    values = row.values
    for name in REQUIRED:
        if not values[name]:
            raise DataError(f"no value for {name}", remedy=f"give {', '.join(REQUIRED)} for each pair")
    name = values["id"]
    if not _SAFE_ID.fullmatch(name) or name.endswith("."):
        remedy = "use letters, digits, _, - and dots, 120 at most, and start with a letter or digit"
        raise DataError(f"id {name[:130]!r} cannot name a folder", remedy=remedy)
    start, end = _date(values["before_date"]), _date(values["after_date"])
    if start and end and start > end:
        problem = f"before_date {values['before_date']} is later than after_date {values['after_date']}"
        raise DataError(problem, remedy="swap the dates, or the images")
    return ManifestPair(
        name,
        root.resolve(values["before"]),
        root.resolve(values["after"]),
        root.resolve(values["aoi"], local=True) if values["aoi"] else None,
        _threshold(values["threshold"]) if values["threshold"] else None,
        values["model"],
        (start, end),
    )


def _date(text: str) -> datetime | None:
    """A date or time, in UTC if it has no time zone; None for empty text."""
    if not text:
        return None
    try:
        date = datetime.fromisoformat(text)
    except ValueError as error:
        raise DataError(f"date {text!r}", remedy="write it as 2024-05-31 or 2024-05-31T10:20:30Z") from error
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)


def address(path: Path | None) -> str:
    """A path as text; restores the double slash of an address."""
    return "" if path is None else re.sub(r"^(https?|s3):/+", r"\1://", str(path), flags=re.IGNORECASE)


def _threshold(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) <= 1:
            return float(text)
    raise DataError(f"threshold {text!r}", remedy="use a probability above 0, at most 1")


def named(found: Iterable[tuple[str, Path, Path]], known: Sequence[ManifestPair] = ()) -> tuple[ManifestPair, ...]:
    """Pairs with safe, unique ids made from their names.

    Args:
        found: Name and both images of each pair.
        known: Pairs that already have an id.

    Raises:
        DataError: Two pairs have the same id.
    """
    pairs = list(known)
    taken = {folded(pair.id) for pair in pairs}
    if len(taken) < len(pairs):
        raise DataError("two pairs have the same id", remedy="give each its own id")
    for name, before, after in found:
        first = unique = safe_id(name)
        number = 1
        while folded(unique) in taken:
            number += 1
            unique = f"{first[:110]}-{number}"
        taken.add(folded(unique))
        pairs.append(ManifestPair(unique, before, after))
    return tuple(pairs)
