"""The manifest: the pairs of an archive, from a table, from STAC files, or from two folders.

In a STAC ItemCollection or static catalog the images are paired by footprint and date: each with the next later one
of the same place. An item with the assets ``before`` and ``after``, as in the catalogue of an archive, is already a
pair. Links are followed only to files below the manifest's folder; nothing is downloaded. Files of two folders are
matched by name, or also by footprint and date.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import shapely
from shapely.errors import GEOSException

from rscd.core.errors import DataError, UsageError
from rscd.core.paths import MANIFEST, require_file
from rscd.core.publish import publishing
from rscd.jobs.pairs import (
    OPTIONAL,
    REQUIRED,
    SUFFIXES,
    Manifest,
    ManifestPair,
    Root,
    address,
    checked,
    feature_rows,
    named,
    read_json,
    safe_id,
    table_rows,
)
from rscd.scene.metadata import Footprint, read_footprint

if TYPE_CHECKING:
    from pystac import Asset, Item


def read_manifest(path: Path, *, allow_remote: bool = False, asset: str | None = None) -> Manifest:
    """Read a table, a STAC ItemCollection or a static STAC catalog.

    Args:
        path: The file. It may refer to files in its folder and below.
        allow_remote: Also allow files elsewhere, and ``https://`` and ``s3://`` addresses.
        asset: Key of the STAC asset that is the image.

    Raises:
        DataError: It cannot be read, contains no pair, or a line is refused; the message names the first one.
        UsageError: It is STAC, and the extra ``stac`` is not installed.
    """
    require_file(path, MANIFEST)
    if path.suffix.lower() not in SUFFIXES:
        raise DataError("is not a manifest by its suffix", path=path, remedy=f"use one of {', '.join(SUFFIXES)}")
    root = Root(path.parent, allow_remote=allow_remote)
    if path.suffix.lower() in (".json", ".geojson"):
        content = read_json(path)
        if is_stac(content):
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


DATES = "before", "after"
"""Assets of an item that is already a pair."""
USUAL_KEYS = ("visual", "image", "data")
"""Assets that are used if none is named; the first that exists."""
MOST_DOCUMENTS = 1_000_000
"""Maximum number of files of a catalog."""


def stac_pairs(path: Path, content: dict[str, Any], root: Root, asset: str | None) -> Manifest:
    """Pair the images of an ItemCollection or catalog.

    Args:
        path: Its file.
        content: Its JSON.
        root: Folder that its links and assets must be in.
        asset: Key of the asset that is the image; default: one of USUAL_KEYS, or the only GeoTIFF.

    Raises:
        DataError: An item cannot be used, or nothing matches.
        UsageError: The extra ``stac`` is not installed.
    """
    images, pairs = [], []
    for place, number, item in _items(path, content, root):
        try:
            if asset is None and set(DATES) <= item.assets.keys():
                pairs.append(_pair(item, place.parent, root))
            else:
                images.append(_image(item, place.parent, root, asset))
        except DataError as error:
            where = f"item {item.id!r}" if place != path else f"item {number}, {item.id!r}"
            raise DataError(f"{where}: {error.problem}", path=place, remedy=error.remedy) from error
    found = [(f"{before.name}__{after.name}", before.path, after.path) for before, after in match(images, images)]
    if not found and not pairs:
        remedy = "give items of the same place (sharing half of the smaller one) with different dates"
        raise DataError(f"no two of its {len(images)} items show one place on two dates", path=path, remedy=remedy)
    used = {image for _, *both in found for image in both}
    alone = [image.name for image in images if image.path not in used]
    made = named(found, pairs)
    return Manifest(made, (f"{len(alone)} items without a partner, e.g. {alone[0]}",) if alone else ())


def _items(path: Path, content: dict[str, Any], root: Root) -> Iterator[tuple[Path, int, Item]]:
    """All items, with the file that contains each, depth first; each file is read once."""
    if "features" in content:
        for number, feature in enumerate(content["features"], start=1):
            yield path, number, _item(path, feature)
        return
    seen, open_files = {path.resolve()}, [(path.resolve(), content)]
    while open_files:
        place, document = open_files.pop()
        if document.get("type") == "Feature":
            yield place, 1, _item(place, document)
            continue
        for file in reversed(list(_children(place, document, root))):
            if file in seen:
                raise DataError(f"{file} is linked twice", path=place, remedy="remove the cycle from the catalog")
            seen.add(file)
            if len(seen) > MOST_DOCUMENTS:
                raise DataError(f"more than {MOST_DOCUMENTS} files", path=path, remedy="split the catalog")
            open_files.append((file, _document(file)))


def _children(place: Path, document: dict[str, Any], root: Root) -> Iterator[Path]:
    links = document.get("links")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("rel") in ("child", "item"):
            try:
                yield root.resolve(str(link.get("href", "")), place.parent, local=True)
            except DataError as error:
                raise DataError(f"link {error.problem}", path=place, remedy=error.remedy) from error


def _document(file: Path) -> dict[str, Any]:
    try:
        content = read_json(file)
    except OSError as error:
        raise DataError(f"cannot be read: {error}", path=file, remedy="repair the catalog's links") from error
    if not isinstance(content, dict):
        raise DataError("is not a STAC document", path=file, remedy="repair the catalog")
    return content


def _item(place: Path, document: Any) -> Item:  # noqa: ANN401
    try:
        import pystac
    except ImportError as error:
        raise UsageError(
            "STAC needs pystac", remedy="install it: pip install '.[stac]' in rscd's folder"
        ) from error
    try:
        return pystac.Item.from_dict(document, preserve_dict=False)
    except Exception as error:  # pystac raises many types: KeyError, TypeError, its own
        problem = f"is not a STAC item: {type(error).__name__}: {error}"
        raise DataError(problem, path=place, remedy="repair the catalog") from error


def _image(item: Item, base: Path, root: Root, key: str | None) -> Image:
    date = item.datetime or item.common_metadata.start_datetime
    if date is None:
        raise DataError("has no date", remedy="give it a datetime")
    try:
        box = item.bbox or []
        flat = box if len(box) == 4 else [*box[:2], *box[3:5]]  # six with heights
        outline = shapely.geometry.shape(item.geometry) if item.geometry else shapely.box(*flat)
    except (ValueError, TypeError, KeyError, AttributeError, GEOSException) as error:
        raise DataError(f"has no footprint: {error}", remedy="give it a geometry") from error
    return Image(
        item.id,
        root.resolve(_asset(item, key).href, base),
        Footprint(shapely.make_valid(outline), date if date.tzinfo else date.replace(tzinfo=UTC)),
    )


def _pair(item: Item, base: Path, root: Root) -> ManifestPair:
    """The pair that an item of an archive's catalogue represents."""
    before, after = (root.resolve(item.assets[role].href, base) for role in DATES)
    own = item.properties.get("rscd:pair") or {}
    area = item.assets.get("aoi")
    known = [item.properties.get(f"rscd:{role}_datetime") for role in DATES]
    try:
        start, end = (datetime.fromisoformat(text).astimezone(UTC) if text else None for text in known)
        threshold = float(own["threshold"]) if "threshold" in own else None
        model = str(own.get("model", ""))
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"cannot be read as a pair: {error}", remedy="repair the catalog") from error
    aoi = root.resolve(area.href, base, local=True) if area is not None else None
    return ManifestPair(safe_id(item.id), before, after, aoi, threshold, model, (start, end))


def _asset(item: Item, key: str | None) -> Asset:
    assets = item.assets
    if key is not None:
        wanted = [key] if key in assets else []
    else:
        tiffs = [name for name, asset in assets.items() if "tiff" in (asset.media_type or "")]
        usual = [name for name in USUAL_KEYS if name in assets]
        wanted = usual[:1] or (tiffs if len(tiffs) == 1 else list(assets) if len(assets) == 1 else [])
    if not wanted:
        there = ", ".join(assets) or "none"
        asked = f"has no asset {key!r}" if key is not None else "does not say which asset is the image"
        raise DataError(f"{asked}; there are: {there}", remedy="name one of them with --asset")
    return assets[wanted[0]]


LEAST_SHARE = 0.5
"""Two images show the same place if they share at least this part of the smaller one."""


@dataclass(frozen=True)
class Image:
    """An image that may become a date of a pair."""

    name: str
    """Name from which the pair's id is made."""
    path: Path
    """The file, or its address."""
    footprint: Footprint
    """Its outline and date."""


def match(befores: Sequence[Image], afters: Sequence[Image]) -> list[tuple[Image, Image]]:
    """Pair each earlier image with the next later one of the same place; if several qualify, the one sharing most.

    Images without a date are paired with those whose outline they share most of. An image is never both dates of a
    pair, so ``befores`` and ``afters`` may be the same list.
    """
    outlines = np.array([image.footprint.outline for image in afters], dtype=object)
    tree = shapely.STRtree(outlines)
    pairs = []
    for before in befores:
        outline = before.footprint.outline
        near = sorted(tree.query(outline, predicate="intersects"))
        shares = {k: _share(outline, outlines[k]) for k in near if _later(before, afters[k])}
        fit = [k for k, share in shares.items() if share >= LEAST_SHARE]
        if fit:
            best = min(fit, key=lambda k: (_wait_s(before, afters[k]), -shares[k]))
            pairs.append((before, afters[best]))
    return pairs


def _share(one: shapely.Geometry, other: shapely.Geometry) -> float:
    """Shared area divided by the smaller area, 0..1."""
    smaller = min(one.area, other.area)
    return float(shapely.intersection(one, other).area / smaller) if smaller else 0.0


def _later(before: Image, after: Image) -> bool:
    start, end = before.footprint.date, after.footprint.date
    if before.path == after.path:
        return False
    return start is None or end is None or end > start


def _wait_s(before: Image, after: Image) -> float:
    """Time between two images, s; 0 if a date is unknown."""
    start, end = before.footprint.date, after.footprint.date
    return 0.0 if start is None or end is None else (end - start).total_seconds()


GEOTIFF_SUFFIXES = (".tif", ".tiff")
READERS = 8
"""Number of headers read at once."""
MatchBy = Literal["name", "footprint"]


def folder_pairs(before_dir: Path, after_dir: Path, by: MatchBy = "name") -> Manifest:
    """Match the GeoTIFFs of two folders, including subfolders.

    Args:
        before_dir: Images of the earlier date.
        after_dir: Images of the later date.
        by: ``name`` matches files with the same path below their folder, ``footprint`` those of the same place.

    Raises:
        DataError: A folder is missing, contains no GeoTIFF or a link out of it, or nothing matches.
    """
    befores, afters = _files(before_dir), _files(after_dir)
    if by == "name":
        found = [(name, befores[name], afters[name]) for name in befores if name in afters]
        used = {path for _, *both in found for path in both}
    else:
        matched = match(_images(befores), _images(afters))
        found = [(before.name, before.path, after.path) for before, after in matched]
        used = {path for _, *both in found for path in both}
    if not found:
        remedy = "try --match-by footprint" if by == "name" else "check that the places match and after is later"
        raise DataError(f"no file in it matches {after_dir} by {by}", path=before_dir, remedy=remedy)
    alone = [path.name for path in (*befores.values(), *afters.values()) if path not in used]
    notes = (f"{len(alone)} files without a partner, e.g. {alone[0]}",) if alone else ()
    return Manifest(named(found), notes)


def _files(folder: Path) -> dict[str, Path]:
    """GeoTIFFs below a folder: path without suffix, relative to it -> file."""
    if not folder.is_dir():
        raise DataError("no such folder", path=folder, remedy="give a folder of GeoTIFFs")
    root = Root(folder)
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in GEOTIFF_SUFFIXES and path.is_file())
    if not files:
        raise DataError("contains no .tif or .tiff", path=folder, remedy="give a folder of GeoTIFFs")
    named_files = ((path.relative_to(folder), path) for path in files)
    try:
        return {name.with_suffix("").as_posix(): root.resolve(name.as_posix()) for name, _ in named_files}
    except DataError as error:
        raise DataError(error.problem, path=folder, remedy="remove the link, or use a manifest") from error


def _images(files: dict[str, Path]) -> list[Image]:
    with ThreadPoolExecutor(READERS) as pool:
        footprints = pool.map(read_footprint, files.values())
        return [Image(name, path, seen) for (name, path), seen in zip(files.items(), footprints, strict=True)]
