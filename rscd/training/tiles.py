"""Labelled tiles in folders ``A/`` (before), ``B/`` (after) and ``label/``, matched by stem."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from rscd.errors import DataError
from rscd.types import ByteArray

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
UNCHANGED, CHANGED, IGNORED = 0, 1, 2
"""Values of a label in memory: IGNORED pixels are not to be judged, neither in training nor in validation."""
Triple = tuple[ByteArray, ByteArray, ByteArray]
"""before (3, H, W), after (3, H, W), label (H, W) of UNCHANGED, CHANGED and IGNORED."""


@dataclass(frozen=True)
class Tile:
    """The three files of one labelled pair."""

    before: Path
    after: Path
    label: Path

    def read(self) -> Triple:
        """Decode the tile.

        Raises:
            DataError: A file cannot be read, sizes differ, or the label has values beyond 0, 1 and 255.
        """
        before, after, label = (_read(p, m) for p, m in zip(self.paths, ("RGB", "RGB", "L"), strict=True))
        if before.shape[:2] != after.shape[:2] or before.shape[:2] != label.shape[:2]:
            sizes = f"before {before.shape[:2]}, after {after.shape[:2]}, label {label.shape[:2]}"
            raise DataError(f"sizes differ: {sizes}", path=self.label, remedy="cut all three to one size")
        values = set(np.unique(label).tolist())
        if not values <= {0, 1, 255}:
            odd = sorted(values - {0, 1, 255})[:5]
            remedy = "use 0 for unchanged, 1 or 255 for changed"
            raise DataError(f"label values {odd}", path=self.label, remedy=remedy)
        return np.moveaxis(before, 2, 0), np.moveaxis(after, 2, 0), (label > 0).astype(np.uint8)

    def pixels(self) -> int:
        """Pixels of the tile, from the label's header.

        Raises:
            DataError: The file cannot be opened.
        """
        with _opened(self.label) as image:
            return image.width * image.height

    @property
    def paths(self) -> tuple[Path, Path, Path]:
        """Before, after, label."""
        return self.before, self.after, self.label


def _read(path: Path, mode: str) -> ByteArray:
    with _opened(path) as image:
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


def find_tiles(folders: Sequence[Path]) -> list[Tile]:
    """List the tiles of the folders, sorted by folder and stem.

    Raises:
        DataError: A folder lacks ``A/``, ``B/`` or ``label/``, holds no tile, or a tile lacks a partner.
    """
    return [tile for folder in folders for tile in _tiles_of(folder)]


def _tiles_of(folder: Path) -> list[Tile]:
    parts = [folder / name for name in ("A", "B", "label")]
    for part in parts:
        if not part.is_dir():
            raise DataError(f"no folder {part.name}/", path=folder, remedy="lay tiles out as A/, B/ and label/")
    before, after, label = (_by_stem(part) for part in parts)
    if not before:
        raise DataError("no image in A/", path=folder, remedy=f"put tiles there ({', '.join(SUFFIXES)})")
    stems = sorted(before.keys() | after.keys() | label.keys())
    for stem in stems:
        for part, found in zip(parts, (before, after, label), strict=True):
            if stem not in found:
                raise DataError(f"no partner for {stem!r}", path=part, remedy="add it or remove the others")
    return [Tile(before[s], after[s], label[s]) for s in stems]


def _by_stem(folder: Path) -> dict[str, Path]:
    return {p.stem: p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES}
