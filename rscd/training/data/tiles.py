"""Labelled tiles: their common interface, and tiles in folders ``A/``, ``B/`` and ``label/``.

The folders may have the names used by common data sets (LEVIR-CD, WHU-CD, CLCD, S2Looking, CDD ...). The split is
defined by ``list/train.txt``, ``list/val.txt``, ``list/test.txt``, or by folders ``train/``, ``val/``, ``test/``
that contain the three folders each. Nothing here needs GDAL.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from rscd.core.errors import DataError
from rscd.core.types import ByteArray
from rscd.options.pair import PairConfig

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
RASTERS, VECTORS = (".tif", ".tiff"), (".gpkg", ".geojson", ".json", ".fgb", ".shp")
"""Suffixes of rasters and of vector files."""
FOLDERS = (
    ("A", "a", "Image1", "image1", "im1", "before"),
    ("B", "b", "Image2", "image2", "im2", "after"),
    ("label", "Label", "labels", "OUT", "out", "mask", "masks", "GT", "gt"),
)
"""Names of the folders of the earlier date, the later date and the labels; the first that exists is used."""
UNCHANGED, CHANGED, IGNORED = 0, 1, 2
"""Values of a label in memory; IGNORED pixels count neither in training nor in validation."""
Triple = tuple[ByteArray, ByteArray, ByteArray]
"""before (3, H, W), after (3, H, W), label (H, W) of UNCHANGED, CHANGED and IGNORED."""
OnBad = Callable[[DataError], None]
"""Called with the error of data that cannot be used; if it raises, the search stops."""


@dataclass(frozen=True)
class PairSource:
    """A pair of GeoTIFFs with labels."""

    name: str
    """Its name in messages and tables."""
    config: PairConfig
    """The files, and how to read them."""
    labels: Path
    """Polygons of change, reviewed polygons, or a raster on the pair's grid."""
    reviewed: bool = False
    """Whether the polygons must have been reviewed."""
    rows: tuple[int, ...] | None = None
    """Indices of the polygons that belong to this pair, from 0; None: all."""


class Tile(Protocol):
    """A labelled pair of images, from any source."""

    @property
    def name(self) -> str:
        """Its name in messages; unique among tiles."""

    @property
    def scene(self) -> str:
        """Tiles of one scene stay on one side of the split between training and validation."""

    def pixels(self) -> int:
        """Number of its pixels, determined without decoding."""

    def truth(self) -> ByteArray:
        """The label (H, W) of UNCHANGED, CHANGED and IGNORED, checked against the images without decoding them."""

    def values(self) -> tuple[int, ...]:
        """The values in the label's file; empty for polygons."""

    def contents(self) -> list[str]:
        """Lines that identify its contents, independent of its folder: equal for equal tiles."""

    def gsd_m(self) -> float | None:
        """Its ground sample distance in m, or None if unknown."""

    def read(self) -> Triple:
        """Images and label."""


@dataclass(frozen=True)
class FolderTile:
    """The three files of one labelled pair."""

    before: Path
    """Image of the earlier date."""
    after: Path
    """Image of the later date."""
    label: Path
    """0 is unchanged, 1 or 255 changed."""

    @property
    def name(self) -> str:
        """The label's path, which is unique."""
        return str(self.label.resolve())

    @property
    def scene(self) -> str:
        """The scene that it was cut from, by its stem."""
        return scene_of(self.label.stem)

    def read(self) -> Triple:
        """Decode the tile.

        Raises:
            DataError: A file cannot be read, sizes differ, or the label has values beyond 0, 1 and 255.
        """
        label = self.truth()
        before, after = (np.moveaxis(read_image(path, "RGB"), 2, 0) for path in (self.before, self.after))
        return before, after, label

    def truth(self) -> ByteArray:
        """The label (H, W), UNCHANGED or CHANGED, after comparing its size with the images' headers.

        Raises:
            DataError: As ``read``, except for errors that only decoding the images shows.
        """
        sizes = [_size(path) for path in self.paths]
        if len(set(sizes)) > 1:
            shown = ", ".join(
                f"{n} {w} x {h}" for n, (w, h) in zip(("before", "after", "label"), sizes, strict=True)
            )
            raise DataError(f"sizes differ: {shown} px", path=self.label, remedy="cut all three to one size")
        label = read_image(self.label, "L")
        check_values(np.unique(label), self.label)
        return (label > 0).astype(np.uint8)

    def contents(self) -> list[str]:
        """Name and size of the images, name and sha256 of the label."""
        images = [f"{_tail(path)}|{path.stat().st_size}" for path in (self.before, self.after)]
        return [*images, f"{_tail(self.label)}|{hashlib.sha256(self.label.read_bytes()).hexdigest()}"]

    def gsd_m(self) -> float | None:
        """None: unknown for such tiles."""
        return None

    def values(self) -> tuple[int, ...]:
        """The values in the label's file, ascending."""
        return tuple(np.unique(read_image(self.label, "L")).tolist())

    def pixels(self) -> int:
        """Pixels of the tile, from the label's header.

        Raises:
            DataError: The file cannot be opened.
        """
        width, height = _size(self.label)
        return width * height

    @property
    def paths(self) -> tuple[Path, Path, Path]:
        """Before, after, label."""
        return self.before, self.after, self.label


def check_values(values: np.ndarray, path: Path) -> None:
    """Refuse a label file with values other than 0, 1 and 255.

    Raises:
        DataError: It has other values.
    """
    odd = sorted(set(values.tolist()) - {0, 1, 255})
    if odd:
        shown = ", ".join(f"{value:g}" for value in odd[:5]) + (" ..." if len(odd) > 5 else "")
        remedy = "use 0 for unchanged and 1 or 255 for changed; a label saved as JPEG must be made again"
        raise DataError(f"label values {shown} other than 0, 1 and 255", path=path, remedy=remedy)


def scene_of(stem: str) -> str:
    """The scene that a tile was cut from: its name without the row and column numbers.

    Trailing numbers are removed as long as a number remains that can distinguish scenes: ``train_12_0_3`` and
    ``train_12_r256_c512`` belong to ``train_12``, and ``train_12`` is a scene itself.
    """
    short = stem
    while (cut := re.fullmatch(r"(.*\d.*?)[_\-. ]+[rcxy]?\d+", short)) is not None:
        short = cut[1]
    return short


def _tail(path: Path) -> str:
    """A file's name within its data set, e.g. ``tiles/label/7.png``."""
    return "/".join(path.absolute().parts[-3:])


def _size(path: Path) -> tuple[int, int]:
    with _opened(path) as image:
        return image.size


def read_image(path: Path, mode: str) -> ByteArray:
    """Decode a file to ``mode``, RGB (H, W, 3) or L (H, W).

    Raises:
        DataError: It cannot be read, or has more than 8 bits per pixel.
    """
    with _opened(path) as image:
        if image.mode.startswith(("I", "F")):
            remedy = "convert it to 8 bit, or give the scene as GeoTIFFs, which are scaled"
            raise DataError(f"has pixels of more than 8 bit (mode {image.mode})", path=path, remedy=remedy)
        # a 1-bit label is 0/255 after conversion, a palette label keeps its indices
        raw = image if mode == "L" and image.mode == "P" else image.convert(mode)
        return np.asarray(raw, dtype=np.uint8)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot be read: {error}", path=path, remedy="replace or remove this tile") from error


def refuse(error: DataError) -> None:
    """Stop at the first data that cannot be used."""
    raise error


def find_tiles(folders: Sequence[Path], on_bad: OnBad = refuse) -> list[FolderTile]:
    """List all tiles of the folders, sorted by folder and stem.

    Raises:
        DataError: A folder has no such layout, contains no tile, or a tile lacks a partner (to ``on_bad``).
    """
    return [tile for folder in folders for tile in _tiles_of(folder, None, on_bad)]


def find_part(folder: Path, part: str, on_bad: OnBad = refuse) -> list[FolderTile] | None:
    """The tiles for ``part`` (train, val, test), by a list or a folder of that name; None if neither is there.

    Raises:
        DataError: As ``find_tiles``; also if a listed tile is missing.
    """
    if not has_layout(folder):
        return _tiles_of(folder / part, None, on_bad) if has_layout(folder / part) else None
    listed = folder / "list" / f"{part}.txt"
    return _tiles_of(folder, listed, on_bad) if listed.is_file() else None


def has_layout(folder: Path) -> bool:
    """Whether a folder contains tiles: it has a folder for each date."""
    return all(_first_of(folder, names) is not None for names in FOLDERS[:2])


def _first_of(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _tiles_of(folder: Path, listed: Path | None, on_bad: OnBad) -> list[FolderTile]:
    parts = []
    for names in FOLDERS:
        found = _first_of(folder, names)
        if found is None:
            other = f" (or {', '.join(names[1:])})"
            problem = f"no folder {names[0]}/{other}" if folder.is_dir() else "no such folder"
            on_bad(DataError(problem, path=folder, remedy="lay tiles out as A/, B/ and label/"))
            return []
        parts.append(found)
    images = [_by_stem(part) for part in parts]
    if not images[0]:
        remedy = f"put tiles there ({', '.join(SUFFIXES)})"
        on_bad(DataError(f"no image in {parts[0].name}/", path=folder, remedy=remedy))
        return []
    stems = sorted(set[str]().union(*images)) if listed is None else _listed(listed)
    tiles = []
    for stem in stems:
        lacking = [part for part, found in zip(parts, images, strict=True) if stem not in found]
        for part in lacking:
            where = "" if listed is None else f", which {listed} names"
            remedy = "add it, or remove its partners"
            on_bad(DataError(f"no partner for {stem!r}{where}", path=part, remedy=remedy))
        if not lacking:
            tiles.append(FolderTile(*(found[stem] for found in images)))
    return tiles


def _listed(path: Path) -> list[str]:
    """The stems in a list: the first word of each line, with or without a suffix."""
    words = [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [Path(word).stem if word.lower().endswith(SUFFIXES) else Path(word).name for word in words]


def _by_stem(folder: Path) -> dict[str, Path]:
    return {p.stem: p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES}
