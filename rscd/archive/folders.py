"""A pair of folders as a manifest: files matched by name, or by footprint and date."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from rscd.archive.hrefs import Root
from rscd.archive.manifest import Manifest, ManifestPair, folded, safe_id
from rscd.archive.matching import Image, match
from rscd.errors import DataError
from rscd.scene.footprint import read_footprint

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


def named(found: Iterable[tuple[str, Path, Path]]) -> tuple[ManifestPair, ...]:
    """Pairs with safe ids that differ, made of their names."""
    taken: set[str] = set()
    pairs = []
    for name, before, after in found:
        first = unique = safe_id(name)
        number = 1
        while folded(unique) in taken:
            number += 1
            unique = f"{first[:110]}-{number}"
        taken.add(folded(unique))
        pairs.append(ManifestPair(unique, before, after))
    return tuple(pairs)


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
