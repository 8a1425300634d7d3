"""The manifest: which pairs there are, each checked before anything runs."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from rscd.archive.hrefs import Root
from rscd.archive.tables import OPTIONAL, REQUIRED, SUFFIXES, Row, feature_rows, read_json, table_rows
from rscd.errors import DataError
from rscd.files import MANIFEST, require_file
from rscd.output.publish import publishing

MOST_TOLD = 5
"""So many further lines are named where more than one is refused."""
_SAFE_ID = re.compile(r"\w[\w.-]{0,119}")
OWN_FILES = ("ledger.sqlite", "ledger.lock", "summary.gpkg", "index.html", "manifest.csv")
"""What lies beside the pairs' folders."""
OWN_ENDINGS = ("", "-wal", "-shm", "-journal", ".rscd")
"""What SQLite and a run add to such a name."""


@dataclass(frozen=True)
class ManifestPair:
    """One pair of an archive."""

    id: str
    """Name of its folder."""
    before: Path
    """Absolute path of the earlier date, or its address."""
    after: Path
    """Likewise of the later date."""
    aoi: Path | None = None
    """Absolute path of a vector file: its area of interest."""
    threshold: float | None = None
    """Its threshold, 0..1."""
    model: str = ""
    """Name of an embedded model, or path of a checkpoint; empty: the one of all pairs."""

    @property
    def problem(self) -> str:
        """Why it cannot have a folder; empty if it can."""
        if folded(self.id) in {f"{name}{ending}" for name in OWN_FILES for ending in OWN_ENDINGS}:
            return f"id {self.id!r} is the name of a file of the archive - give the pair another id"
        return ""


@dataclass(frozen=True)
class Manifest:
    """All pairs, in order; ids differ and are safe names of folders."""

    pairs: tuple[ManifestPair, ...]
    """At least one."""
    notes: tuple[str, ...] = field(default=())
    """What was left out, and why."""


def read_manifest(path: Path, *, allow_remote: bool = False, asset: str | None = None) -> Manifest:
    """Read a table, a STAC ItemCollection or a static STAC catalog.

    Args:
        path: The file. Its folder is the root of what it may point at.
        allow_remote: Let it point out of its folder and at ``https://`` and ``s3://`` addresses.
        asset: Key of the STAC asset that is the image.

    Raises:
        DataError: It cannot be read, holds no pair, or a line is refused; the first such line is told.
        UsageError: STAC, and the extra ``stac`` is not installed.
    """
    require_file(path, MANIFEST)
    if path.suffix.lower() not in SUFFIXES:
        raise DataError("no manifest by its suffix", path=path, remedy=f"use one of {', '.join(SUFFIXES)}")
    root = Root(path.parent, allow_remote=allow_remote)
    if path.suffix.lower() in (".json", ".geojson"):
        content = read_json(path)
        if is_stac(content):
            from rscd.archive.stac import stac_pairs

            return stac_pairs(path, content, root, asset)
        return checked(path, feature_rows(path, content), root)
    return checked(path, table_rows(path), root)


def is_stac(content: object) -> bool:
    """Whether JSON is a STAC catalog, collection or ItemCollection."""
    if not isinstance(content, dict):
        return False
    if content.get("type") in ("Catalog", "Collection"):
        return True
    features = content.get("features")
    first = features[0] if isinstance(features, list) and features else None
    return isinstance(first, dict) and "stac_version" in first


def checked(path: Path, rows: Iterable[Row], root: Root) -> Manifest:
    """Turn rows into pairs, or refuse them all and tell the first that is wrong.

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
                raise DataError(f"id {pair.id!r} is that of line {first} too", remedy="give each pair its own")
            pairs.append(pair)
        except DataError as error:
            wrong.append((row.line, error))
    if wrong:
        line, first_error = wrong[0]
        more = [str(number) for number, _ in wrong[1:]]
        also = f" (and {len(more)} more: line {', '.join(more[:MOST_TOLD])}{' ...' * (len(more) > MOST_TOLD)})"
        raise DataError(
            f"line {line}: {first_error.problem}{also * bool(more)}", path=path, remedy=first_error.remedy
        )
    if not pairs:
        raise DataError("holds no pair", path=path, remedy="give one a line: id,before,after")
    return Manifest(tuple(pairs))


def folded(name: str) -> str:
    """A name as file systems that ignore case compare it."""
    return unicodedata.normalize("NFC", name).casefold()


def safe_id(text: str) -> str:
    """A safe id made of any text."""
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
    return ManifestPair(
        name,
        root.resolve(values["before"]),
        root.resolve(values["after"]),
        root.resolve(values["aoi"], local=True) if values["aoi"] else None,
        _threshold(values["threshold"]) if values["threshold"] else None,
        values["model"],
    )


def _threshold(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) <= 1:
            return float(text)
    raise DataError(f"threshold {text!r}", remedy="use a probability above 0, at most 1")


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write the pairs as CSV with absolute paths, over whatever is there."""
    with publishing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow((*REQUIRED, *OPTIONAL))
        for pair in manifest.pairs:
            files = (_address(path) for path in (pair.before, pair.after, pair.aoi))
            writer.writerow([pair.id, *files, pair.threshold, pair.model])


def _address(path: Path | None) -> str:
    """A path as text; an address gets its double slash back."""
    return "" if path is None else re.sub(r"^(https?|s3):/+", r"\1://", str(path), flags=re.IGNORECASE)
