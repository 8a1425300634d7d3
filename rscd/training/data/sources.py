"""Sources of labelled data: folders of tiles, and pairs of GeoTIFFs with labels. Nothing is opened yet.

A pair comes from ``--pair``, from a list (.csv), from a folder with a scene, or from reviewed output of detect. A
folder contains a scene if it has one file each with the names in ``DATES`` and ``LABELS``::

    paris/rgb_t1.tif        or      site/before.tif
    paris/rgb_t2.tif                site/after.tif
    paris/label.tif                 site/changes.gpkg
                                    site/aoi.gpkg        (optional)
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rscd.core.errors import DataError, UsageError
from rscd.options.pair import PairConfig
from rscd.options.training import LabelledConfig
from rscd.training.data.tiles import RASTERS, VECTORS, OnBad, PairSource, has_layout, refuse

DATES = ("before", "t1", "rgb_t1", "im1"), ("after", "t2", "rgb_t2", "im2")
"""File names, without suffix, of a scene's earlier and later date."""
LABELS = ("label", "labels", "changes", "mask", "gt")
"""File names, without suffix, of its labels."""

COLUMNS = ("before", "after", "labels")
"""Columns that a list of scenes must have; ``aoi`` is optional."""
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Sources:
    """The labelled data that was found."""

    folders: list[Path] = field(default_factory=list)
    """Folders of tiles."""
    pairs: list[PairSource] = field(default_factory=list)
    """Labelled scenes."""


def find_sources(config: LabelledConfig, reviews: Sequence[Path] = (), on_bad: OnBad = refuse) -> Sources:
    """Determine the kind of each path in ``config.data``, and add ``config.pair`` and reviews.

    Raises:
        UsageError: No data is given, or an area of interest without a pair.
        DataError: A path is none of the above (passed to ``on_bad``).
    """
    if not config.data and config.pair is None and not reviews:
        raise UsageError(
            "no labelled data", remedy="give folders of tiles or scenes, or --pair BEFORE AFTER LABELS"
        )
    if config.aoi is not None and config.pair is None and not reviews:
        raise UsageError("--aoi without --pair", remedy="put it into the scene's folder as aoi.gpkg")
    found = Sources()
    for path in config.data:
        try:
            _add(found, path, config, on_bad)
        except DataError as error:
            on_bad(error)
    if config.pair is not None:
        before, after, labels = config.pair
        found.pairs.append(_pair(str(labels), (before, after), labels, config, config.aoi))
    for path in reviews:
        try:
            found.pairs.extend(_reviewed(path, config.aoi))
        except DataError as error:
            on_bad(error)
    return found


def _add(found: Sources, path: Path, config: LabelledConfig, on_bad: OnBad) -> None:
    if path.suffix.lower() == ".csv" and path.is_file():
        found.pairs.extend(_listed(path, config))
    elif has_layout(path) or any(has_layout(path / part) for part in PARTS):
        found.folders.append(path)
    elif path.is_file():
        remedy = "give a pair as --pair BEFORE AFTER LABELS, and detect's reviewed output as --from-review FILE"
        raise DataError("is a single file", path=path, remedy=remedy)
    else:
        scenes = [folder for folder in (path, *_folders_in(path)) if any(_dates(folder))]
        if not scenes:
            found.folders.append(path)  # its reader reports what is missing
        for folder in scenes:
            try:
                found.pairs.append(_of_folder(folder, config))
            except DataError as error:
                on_bad(error)


def _folders_in(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []


def _named(folder: Path, names: Sequence[str], suffixes: Sequence[str]) -> Path | None:
    files = (folder / f"{name}{suffix}" for name in names for suffix in suffixes)
    return next((path for path in files if path.is_file()), None)


def _dates(folder: Path) -> tuple[Path | None, Path | None]:
    before, after = (_named(folder, names, RASTERS) for names in DATES)
    return before, after


def _of_folder(folder: Path, config: LabelledConfig) -> PairSource:
    """The scene in a folder.

    Raises:
        DataError: It lacks a file.
    """
    (before, after), labels = _dates(folder), _named(folder, LABELS, (*VECTORS, *RASTERS))
    if before is None or after is None or labels is None:
        parts = ("later date", DATES[1]) if after is None else ("labels", LABELS)
        lacking, names = ("earlier date", DATES[0]) if before is None else parts
        problem = f"contains a scene without its {lacking}"
        raise DataError(problem, path=folder, remedy=f"add it as {' or '.join(names)}, or remove the other files")
    return _pair(str(folder), (before, after), labels, config, _named(folder, ("aoi",), VECTORS))


def _pair(
    name: str, dates: tuple[Path, Path], labels: Path, config: LabelledConfig, aoi: Path | None
) -> PairSource:
    bands, after_bands = config.bands, config.after_bands
    how = PairConfig(*dates, bands=bands, after_bands=after_bands, grid=config.grid, align=config.align, aoi=aoi)
    return PairSource(name, how, labels)


def _listed(path: Path, config: LabelledConfig) -> list[PairSource]:
    """The scenes of a list; paths in it are relative to its folder."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    lacking = [name for name in COLUMNS if not rows or not all(row.get(name) for row in rows)]
    if lacking:
        remedy = f"write a header {','.join(COLUMNS)}[,aoi] and a line for each scene"
        raise DataError(f"lacks {', '.join(lacking)}", path=path, remedy=remedy)
    pairs = []
    for row in rows:
        before, after, labels = (path.parent / row[name] for name in COLUMNS)
        aoi = path.parent / row["aoi"] if row.get("aoi") else None
        pairs.append(_pair(str(labels), (before, after), labels, config, aoi))
    return pairs


def _reviewed(path: Path, aoi: Path | None) -> list[PairSource]:
    from rscd.training.data.labels import reviewed_pairs

    return reviewed_pairs(path, aoi)
