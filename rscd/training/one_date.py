"""Images of a single date with all things of the class outlined, in pairs: what changed is one or the other.

Two places that have nothing to do with one another differ in everything, and yet only where exactly one of them has
the thing is there a change: so a network learns to look for the thing. One place in two lights has no change.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.random import Generator

from rscd.errors import DataError
from rscd.training.augment import Crop, random_crop
from rscd.training.tiles import CHANGED, IGNORED, SUFFIXES, UNCHANGED, check_values, read_image

SAME = 0.4
"""Share of pairs that show one place twice."""


class OneDate:
    """Images and outlines of some folders.

    Args:
        folders: Each holds ``image/`` and ``label/``, with files of equal stems; a label is 0, and 1 or 255 where
            the thing is.

    Raises:
        DataError: A folder lacks one of them, or an image has no label.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.files = [pair for folder in folders for pair in _files(folder)]

    def pair(self, size: int, scale: tuple[float, float], rng: Generator) -> tuple[Crop, str]:
        """Draw a pair of ``size`` px at zooms from ``scale``, and tell where it is from.

        Raises:
            DataError: A file cannot be read, or is not as it should be.
        """
        one, other = (int(i) for i in rng.integers(len(self.files), size=2))
        name = self.files[one][0].name
        first = random_crop(_read(*self.files[one]), size, scale, rng)
        if one == other or rng.random() < SAME:
            unchanged = np.full_like(first.label, UNCHANGED)
            return first._replace(label=unchanged, built=np.stack([first.label, first.label])), name
        second = random_crop(_read(*self.files[other]), size, scale, rng)
        label = np.where(first.label != second.label, np.uint8(CHANGED), np.uint8(UNCHANGED))
        label[(first.label == IGNORED) | (second.label == IGNORED)] = IGNORED
        both = np.stack([first.label, second.label])
        return Crop(first.before, second.before, label, both), f"{name} and {self.files[other][0].name}"


def _files(folder: Path) -> list[tuple[Path, Path]]:
    labels = {path.stem: path for path in sorted((folder / "label").glob("*")) if path.suffix.lower() in SUFFIXES}
    images = [path for path in sorted((folder / "image").glob("*")) if path.suffix.lower() in SUFFIXES]
    missing = [path.name for path in images if path.stem not in labels]
    if not images or missing:
        problem = f"has no label for {missing[0]}" if missing else "holds no images of one date"
        raise DataError(problem, path=folder, remedy="make folders image/ and label/ with files of equal names")
    return [(path, labels[path.stem]) for path in images]


def _read(image: Path, label: Path) -> Crop:
    pixels, outlined = np.moveaxis(read_image(image, "RGB"), 2, 0), read_image(label, "L")
    check_values(np.unique(outlined), label)
    if pixels.shape[1:] != outlined.shape:
        raise DataError("its size is not that of its image", path=label, remedy="make both of one size")
    there = (outlined > 0).astype(np.uint8)
    return Crop(pixels, pixels, there)
