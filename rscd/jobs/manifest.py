"""The manifest: which pairs there are, each checked before anything runs."""

from __future__ import annotations

import csv
from pathlib import Path

from rscd.core.errors import DataError
from rscd.core.paths import MANIFEST, require_file
from rscd.core.publish import publishing
from rscd.jobs.pairs import Manifest, Root, address, checked
from rscd.jobs.tables import OPTIONAL, REQUIRED, SUFFIXES, feature_rows, read_json, table_rows


def read_manifest(path: Path, *, allow_remote: bool = False, asset: str | None = None) -> Manifest:
    """Read a table, a STAC ItemCollection or a static STAC catalog.

    Args:
        path: The file. Its folder is the root of what it may point at.
        allow_remote: Let it point out of its folder and at ``https://`` and ``s3://`` addresses.
        asset: Key of the STAC asset that is the image.

    Raises:
        DataError: It cannot be read, holds no pair, or a line is refused; the first such line is named.
        UsageError: STAC, and the extra ``stac`` is not installed.
    """
    require_file(path, MANIFEST)
    if path.suffix.lower() not in SUFFIXES:
        raise DataError("no manifest by its suffix", path=path, remedy=f"use one of {', '.join(SUFFIXES)}")
    root = Root(path.parent, allow_remote=allow_remote)
    if path.suffix.lower() in (".json", ".geojson"):
        content = read_json(path)
        if is_stac(content):
            from rscd.jobs.stac import stac_pairs

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


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write the pairs as CSV with absolute paths, replacing an existing file."""
    with publishing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow((*REQUIRED, *OPTIONAL))
        for pair in manifest.pairs:
            files = (address(path) for path in (pair.before, pair.after, pair.aoi))
            dates = (date and date.isoformat() for date in pair.dates)
            writer.writerow([pair.id, *files, pair.threshold, pair.model, *dates])
