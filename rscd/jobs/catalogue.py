"""A static STAC catalogue of an archive: a collection, and an item for each finished pair.

Only changed files are written, each as a whole: a nightly run leaves the items of other pairs unchanged, and a
reader never finds a partial file. ``rscd batch`` can read it as a manifest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyogrio
import pyproj
import shapely

from rscd.core.errors import DataError, OutputError, UsageError
from rscd.core.publish import publishing, writing
from rscd.core.version import VERSION
from rscd.jobs.job import CHANGES, PROBABILITY, REPORT
from rscd.jobs.ledger import Entry
from rscd.jobs.pairs import ManifestPair, address, safe_id
from rscd.jobs.summary import directions_of
from rscd.scene.files import gdal_name
from rscd.scene.metadata import outline_and_box, read_footprint

if TYPE_CHECKING:
    import pystac

COLLECTION, PROVENANCE = "collection.json", "provenance.json"
"""File names of the catalogue; an item is in ID/ID.json."""
MARK = "rscd:archive"
"""Field of a collection that marks it as written by rscd."""
ARCHIVE = "rscd:archive_folder"
"""Field of a collection with the path of its archive's folder, relative to the collection."""
PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
PROCESSING = "https://stac-extensions.github.io/processing/v1.1.0/schema.json"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
GEOTIFF = "image/tiff; application=geotiff"
FILES = {
    "vector": (CHANGES, "Polygons of change", "application/geopackage+sqlite3", ["data"]),
    "raster": (PROBABILITY, "Probability of change", COG, ["data"]),
    "report": (REPORT, "Report page", "text/html", ["overview"]),
}
"""Asset -> file of a pair, title, media type, roles."""
DATES = "before", "after"
DESCRIPTION = (
    "Maps of change between two images, an item a pair. start_datetime and end_datetime are when the images were "
    "taken; where that is not known, datetime is when the map was made."
)


def check_catalogue(folder: Path, archive: Path, pairs: Iterable[str]) -> None:
    """Refuse, before any work, a folder that cannot become the archive's catalogue.

    Args:
        folder: Folder of the catalogue.
        archive: Folder of the archive.
        pairs: Folder names of its pairs.

    Raises:
        UsageError: It contains other files, or the catalogue of another archive; or the extra ``stac`` is missing.
        OutputError: It cannot be created.
    """
    _pystac()
    real = Path(os.path.realpath(folder))
    for other in (archive, *(archive / pair for pair in pairs)):
        inside = Path(os.path.realpath(other))
        if real == inside or (other != archive and inside in real.parents):
            raise UsageError(f"is {other}, or inside it", path=folder, remedy="name another folder with --stac")
    if folder.exists() and not folder.is_dir():
        raise UsageError("is not a folder", path=folder, remedy="name another one with --stac")
    if folder.is_dir() and any(folder.iterdir()) and MARK not in (_read(folder / COLLECTION) or {}):
        problem = "contains files that are not a catalogue of rscd"
        raise UsageError(problem, path=folder, remedy="name an empty folder with --stac")
    known = (_read(folder / COLLECTION) or {}).get(ARCHIVE, "")
    whose = (folder / str(known)).resolve() if known else archive.resolve()
    if whose.is_dir() and whose != archive.resolve():
        problem = f"is the catalogue of another archive, {whose}"
        raise UsageError(problem, path=folder, remedy="name another folder with --stac")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        remedy = "name a folder whose parent exists and is writable"
        raise OutputError(f"cannot be created: {error}", path=folder, remedy=remedy) from error


def write_catalogue(folder: Path, archive: Path, entries: Sequence[Entry], pairs: Sequence[ManifestPair]) -> Path:
    """Write or update the catalogue; returns the path of its collection.

    Unfinished pairs of this manifest have no item. Items of other pairs are kept as long as their map exists.

    Args:
        folder: Folder of the catalogue, checked by ``check_catalogue``.
        archive: Folder of the archive, with one folder per pair.
        entries: The pairs of this manifest in the ledger.
        pairs: The same pairs in the manifest.

    Raises:
        OutputError: A file cannot be written.
    """
    name, asked = safe_id(archive.absolute().name), {pair.id: pair for pair in pairs}
    collection = folder / COLLECTION
    if not collection.exists():  # first, so that a killed run leaves a folder that is marked as ours
        _put(collection, _collection(name, {}, _relative(archive, folder)))
    items: dict[str, dict[str, Any]] = dict(_others(folder, {entry.id for entry in entries}))
    for entry in entries:
        if entry.state == "done":
            place = folder / entry.id
            with writing(place):
                place.mkdir(exist_ok=True)
            known = _provenance(archive / entry.id / CHANGES)
            _put(place / PROVENANCE, known)
            items[entry.id] = _item(name, place, archive / entry.id, entry, asked[entry.id], known)
            _put(place / f"{entry.id}.json", items[entry.id])
    _put(collection, _collection(name, items, _relative(archive, folder)))
    for place in _places(folder):
        if place.name not in items:
            with writing(place):
                _remove(place)
    return collection


def _others(folder: Path, listed: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Items of pairs that are not in this manifest, and whose map still exists."""
    for place in _places(folder):
        item = _read(place / f"{place.name}.json")
        if item is not None and place.name not in listed:
            with suppress(KeyError, TypeError):
                if (place / item["assets"]["vector"]["href"]).is_file():
                    yield place.name, item


def _places(folder: Path) -> list[Path]:
    """Folders of items."""
    return sorted(path for path in folder.iterdir() if (path / f"{path.name}.json").is_file())


def _remove(place: Path) -> None:
    """Remove an item, its own file first; other files in the folder stay."""
    (place / f"{place.name}.json").unlink()
    (place / PROVENANCE).unlink(missing_ok=True)
    with suppress(OSError):
        place.rmdir()


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object; None if the file has none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _put(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, unless the file already has this content."""
    text = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
    with writing(path):
        if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
            with publishing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")


def _provenance(vector: Path) -> dict[str, Any]:
    """Provenance of the run that made a GeoPackage."""
    metadata = pyogrio.read_info(vector, layer="changes")["layer_metadata"] or {}
    return {name: json.loads(value) for name, value in metadata.items()}


def _item(
    collection: str, place: Path, folder: Path, entry: Entry, pair: ManifestPair, known: Mapping[str, Any]
) -> dict[str, Any]:
    """The item of a pair.

    Args:
        collection: Id of the collection.
        place: The item's folder.
        folder: The pair's folder.
        entry: Its entry in the ledger.
        pair: Its entry in the manifest.
        known: Provenance of its map.
    """
    info = pyogrio.read_info(folder / CHANGES, layer="extent")
    _, table = pyogrio.read_arrow(folder / CHANGES, layer="extent", columns=[])
    shapes = [s for s in shapely.from_wkb(table["geometry"].to_numpy()) if s is not None and not s.is_empty]
    outline, box = outline_and_box(shapes[0], info["crs"])
    dates = [_taken(role, pair, known) for role in DATES]
    item = _pystac().Item(
        id=entry.id,
        geometry=json.loads(shapely.to_geojson(outline)),
        bbox=list(box),
        **_when(dates, entry),
        properties=_properties(entry, pair, dates, known, folder) | _projection(info["crs"], shapes[0].bounds),
        stac_extensions=[PROJECTION, PROCESSING],
        collection=collection,
    )
    for key, asset in _assets(place, folder, pair):
        item.add_asset(key, asset)
    links = [_link(rel, f"../{COLLECTION}") for rel in ("root", "parent", "collection")]
    return {**item.to_dict(include_self_link=False, transform_hrefs=False), "links": links}


def _when(dates: Sequence[datetime | None], entry: Entry) -> dict[str, Any]:
    """STAC times: from one image to the other; if a date is unknown, the time when the map was made."""
    known = sorted(date for date in dates if date is not None)
    if len(known) == len(dates):
        return {"datetime": None, "start_datetime": known[0], "end_datetime": known[-1]}
    return {"datetime": datetime.fromisoformat(entry.ended)}


def _taken(role: str, pair: ManifestPair, known: Mapping[str, Any]) -> datetime | None:
    """Acquisition time of an image: from the manifest, else from its tag or name; None if unknown."""
    path, date = getattr(pair, role), pair.dates[DATES.index(role)]
    if date is not None:
        return date
    with suppress(DataError):
        return read_footprint(path, remote=gdal_name(path) is not None).date
    with suppress(KeyError, ValueError):  # the image no longer exists
        return datetime.fromisoformat(known["pair"][role]["taken"]).replace(tzinfo=UTC)
    return None


def _properties(
    entry: Entry, pair: ManifestPair, dates: Sequence[datetime | None], known: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    model, found = known.get("model", {}), known.get("pair", {})
    own = {name: value for name, value in (("threshold", pair.threshold), ("model", pair.model)) if value}
    days = {f"rscd:{role}_datetime": date and _stamp(date) for role, date in zip(DATES, dates, strict=True)}
    ways = directions_of(folder / CHANGES)
    return {
        "updated": _stamp(datetime.fromisoformat(entry.ended)),
        **({"gsd": round(found["gsd_m"], 4)} if found.get("gsd_m") else {}),
        "license": "other",
        "processing:software": {str(name): str(version) for name, version in known.get("versions", {}).items()},
        "processing:lineage": f"change between two images, by the model {entry.model or model.get('name', '')}",
        "rscd:model": entry.model,
        "rscd:model_sha256": model.get("sha256", ""),
        "rscd:model_licence": model.get("licence", ""),
        "rscd:verdict": entry.verdict,
        "rscd:changes": entry.polygons,
        "rscd:changed_m2": round(entry.changed_m2, 2),
        "rscd:directions": {way: {"changes": n, "area_m2": round(area, 2)} for way, (n, area) in ways.items()},
        "rscd:observed_km2": entry.observed_km2,
        "rscd:not_observable_km2": entry.not_observable_km2,
        **days,
        **({"rscd:pair": own} if own else {}),
    }


def _projection(crs: str, bounds: Sequence[float]) -> dict[str, Any]:
    system = pyproj.CRS.from_user_input(crs)
    epsg = system.to_epsg()
    named: dict[str, Any] = (
        {"proj:code": f"EPSG:{epsg}"} if epsg else {"proj:code": None, "proj:wkt2": system.to_wkt()}
    )
    return named | {"proj:bbox": list(bounds)}


def _assets(place: Path, folder: Path, pair: ManifestPair) -> Iterator[tuple[str, pystac.Asset]]:
    """Assets of a pair: its outputs, its provenance, and its inputs."""
    asset = _pystac().Asset
    for key, (name, title, kind, roles) in FILES.items():
        if (folder / name).is_file():
            more = {"data_type": "uint8", "nodata": 255} if key == "raster" else {}
            yield (
                key,
                asset(_relative(folder / name, place), title, media_type=kind, roles=roles, extra_fields=more),
            )
    yield "provenance", asset(f"./{PROVENANCE}", "Provenance", media_type="application/json", roles=["metadata"])
    for role in DATES:
        href = _relative(getattr(pair, role), place)
        yield role, asset(href, f"Image {role}", media_type=GEOTIFF, roles=["source"])
    if pair.aoi is not None:
        yield "aoi", asset(_relative(pair.aoi, place), "Area of interest", roles=["source"])


def _relative(path: Path, folder: Path) -> str:
    """A file relative to a folder; an address unchanged."""
    if gdal_name(path) is not None:
        return address(path)
    with suppress(ValueError):  # another drive of Windows
        return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
    return path.absolute().as_posix()


def _collection(name: str, items: Mapping[str, Mapping[str, Any]], archive: str) -> dict[str, Any]:
    """The collection of all items."""
    stac, listed = _pystac(), sorted(items)
    boxes = [items[one]["bbox"] for one in listed] or [[-180.0, -90.0, 180.0, 90.0]]
    around = any(west > east for west, _, east, _ in boxes)
    west, east = (-180.0, 180.0) if around else (min(b[0] for b in boxes), max(b[2] for b in boxes))
    times = [items[one]["properties"] for one in listed]
    starts = [t.get("start_datetime") or t["datetime"] for t in times]
    ends = [t.get("end_datetime") or t["datetime"] for t in times]
    interval = [_time(min(starts, default=None)), _time(max(ends, default=None))]
    collection = stac.Collection(
        id=name,
        title=f"Changes in {name}",
        description=DESCRIPTION,
        extent=stac.Extent(
            stac.SpatialExtent([[west, min(b[1] for b in boxes), east, max(b[3] for b in boxes)]]),
            stac.TemporalExtent([interval]),
        ),
        license="other",
        extra_fields={MARK: VERSION, ARCHIVE: archive},
    )
    links = [_link("root", f"./{COLLECTION}"), *(_link("item", f"./{one}/{one}.json", one) for one in listed)]
    return {**collection.to_dict(include_self_link=False, transform_hrefs=False), "links": links}


def _link(rel: str, href: str, title: str = "") -> dict[str, str]:
    kind = "application/geo+json" if rel == "item" else "application/json"
    return {"rel": rel, "href": href, "type": kind} | ({"title": title} if title else {})


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _stamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _pystac() -> Any:  # noqa: ANN401 - a module
    try:
        import pystac
    except ImportError as error:
        remedy = "install it: pip install '.[stac]' in rscd's folder"
        raise UsageError("--stac needs pystac", remedy=remedy) from error
    return pystac
