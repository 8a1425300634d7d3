"""A pair of folders as a manifest: files matched by name, or by footprint and date."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import shapely

from rscd.core.errors import DataError
from rscd.jobs.pairs import Manifest, Root, named
from rscd.scene.metadata import Footprint, read_footprint

LEAST_SHARE = 0.5
"""Two images are of one place if they share this much of the smaller one."""


@dataclass(frozen=True)
class Image:
    """One image that may be a date of a pair."""

    name: str
    """What its pair's id is made of."""
    path: Path
    """The file, or its address."""
    footprint: Footprint
    """Where and when."""


def match(befores: Sequence[Image], afters: Sequence[Image]) -> list[tuple[Image, Image]]:
    """Give each earlier image the next later one of its place; of several as late, the one that shares most.

    Images without a date go with those whose outline they share most of. The same image is never both dates, so
    ``befores`` and ``afters`` may be one pool.
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
    """Time between two images, s; 0 where a date is not known."""
    start, end = before.footprint.date, after.footprint.date
    return 0.0 if start is None or end is None else (end - start).total_seconds()


SUFFIXES = (".tif", ".tiff")
READERS = 8
"""Headers that are read at once."""
MatchBy = Literal["name", "footprint"]


def folder_pairs(before_dir: Path, after_dir: Path, by: MatchBy = "name") -> Manifest:
    """Match the GeoTIFFs of two folders and all below them.

    Args:
        before_dir: Images of the earlier date.
        after_dir: Images of the later date.
        by: ``name`` takes files of the same path below their folder, ``footprint`` those of one place.

    Raises:
        DataError: A folder is missing, holds no GeoTIFF or leads out of itself, or nothing matches.
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
        remedy = "try --match-by footprint" if by == "name" else "see that both show the same places, after later"
        raise DataError(f"nothing in it matches {after_dir} by {by}", path=before_dir, remedy=remedy)
    alone = [path.name for path in (*befores.values(), *afters.values()) if path not in used]
    notes = (f"{len(alone)} files without a partner, e.g. {alone[0]}",) if alone else ()
    return Manifest(named(found), notes)


def _files(folder: Path) -> dict[str, Path]:
    """GeoTIFFs below a folder: path without suffix, relative to it -> file."""
    if not folder.is_dir():
        raise DataError("no such folder", path=folder, remedy="give a folder of GeoTIFFs")
    root = Root(folder)
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise DataError("holds no .tif or .tiff", path=folder, remedy="give a folder of GeoTIFFs")
    named_files = ((path.relative_to(folder), path) for path in files)
    try:
        return {name.with_suffix("").as_posix(): root.resolve(name.as_posix()) for name, _ in named_files}
    except DataError as error:
        raise DataError(error.problem, path=folder, remedy="take the link out, or use a manifest") from error


def _images(files: dict[str, Path]) -> list[Image]:
    with ThreadPoolExecutor(READERS) as pool:
        footprints = pool.map(read_footprint, files.values())
        return [Image(name, path, seen) for (name, path), seen in zip(files.items(), footprints, strict=True)]
