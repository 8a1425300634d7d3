"""Crops in batches: from labelled tiles, rendered scenes, and pairs of single-date images.

If every object of the class is labelled in single-date images, two images of different places form a pair: pixels
changed where exactly one of them has an object. The places also differ everywhere else, so the network learns to
look for the class. One place shown twice with different radiometry gives pairs without change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from rscd.core.errors import DataError
from rscd.core.types import LongArray
from rscd.options.training import TrainConfig
from rscd.training.data.augmentation import Crop, augment, displaced, random_crop
from rscd.training.data.tiles import CHANGED, IGNORED, SUFFIXES, UNCHANGED, Tile, check_values, read_image

SAME = 0.4
"""Share of pairs that show the same place twice."""


class OneDate:
    """Single-date images and labels of some folders.

    Args:
        folders: Each contains ``image/`` and ``label/``, with files of equal stems; a label is 0, and 1 or 255
            where there is an object of the class.

    Raises:
        DataError: A folder lacks one of them, or an image has no label.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.files = [pair for folder in folders for pair in _files(folder)]

    def pair(self, size: int, scale: tuple[float, float], rng: Generator) -> tuple[Crop, str]:
        """Draw a pair of ``size`` px at zooms from ``scale``, and its name.

        Raises:
            DataError: A file cannot be read, or is invalid.
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
        raise DataError(problem, path=folder, remedy="make folders image/ and label/ with files of the same names")
    return [(path, labels[path.stem]) for path in images]


def _read(image: Path, label: Path) -> Crop:
    pixels, outlined = np.moveaxis(read_image(image, "RGB"), 2, 0), read_image(label, "L")
    check_values(np.unique(outlined), label)
    if pixels.shape[1:] != outlined.shape:
        raise DataError("differs in size from its image", path=label, remedy="make both the same size")
    there = (outlined > 0).astype(np.uint8)
    return Crop(pixels, pixels, there)


RENDERED, RENDERED_SEED = 512, 1_000_000
"""Number of rendered scenes in the training pool, and the seed of the first."""
RENDERED_GSD_M = 0.35, 0.8
"""Range of their pixel sizes, m."""
OFFSET_PX = 3
"""Their dates are displaced by up to this, px: those of satellite images seldom fit exactly."""
ORDER, SAMPLE = 0, 1
"""Purpose of a random generator, used with the seed: the order of tiles, or everything random in one sample."""


@dataclass(frozen=True)
class Batch:
    """Crops of one step."""

    before: Tensor
    """(N, 3, crop, crop) uint8."""
    after: Tensor
    """(N, 3, crop, crop) uint8."""
    label: Tensor
    """(N, crop, crop) uint8, as in ``tiles``."""
    names: tuple[str, ...]
    """Origin of each crop, for messages."""
    built: Tensor | None = None
    """(N, 2, crop, crop) uint8, as in ``Crop``; None if it is not known for any crop."""


class Batches:
    """The crops of a run.

    Args:
        tiles: Labelled tiles, in a fixed order.
        config: Sizes, zoom, share of rendered scenes, seed.
        rank: This process makes share ``rank`` of ``processes`` equal shares of each batch.
        processes: Number of shares.
        threads: Threads that cut crops; the crops do not depend on it.
    """

    def __init__(
        self, tiles: Sequence[Tile], config: TrainConfig, rank: int = 0, processes: int = 1, threads: int = 1
    ) -> None:
        self.tiles, self.config, self.threads = tiles, config, threads
        share = config.batch_size // processes
        self.share = range(rank * share, (rank + 1) * share)
        self._one_date = OneDate(config.one_date)
        # a large tile is drawn more often, so that every piece of ground is seen equally often
        self._spread = np.repeat(np.arange(len(tiles)), [max(1, t.pixels() // config.crop**2) for t in tiles])
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def steps(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield the batches of steps ``start`` to ``stop - 1``."""
        with ThreadPoolExecutor(self.threads) as pool:
            for step in range(start, stop):
                first = step * self.config.batch_size
                samples = pool.map(self.sample, (first + place for place in self.share))
                crops, names = zip(*samples, strict=True)
                before, after, label = (
                    torch.from_numpy(np.stack(part))
                    for part in zip(*((c.before, c.after, c.label) for c in crops), strict=True)
                )
                yield Batch(before, after, label, names, _built(crops))

    def sample(self, number: int) -> tuple[Crop, str]:
        """Make sample ``number`` of the run; returns it with its origin, for messages."""
        rng = np.random.default_rng((self.config.seed, SAMPLE, number))
        config, kind = self.config, rng.random()
        if kind < config.simulated:
            scene = int(rng.integers(RENDERED))
            tile = displaced(_rendered(scene, 2 * config.crop), OFFSET_PX, rng)
            crop, name = random_crop(tile, config.crop, config.scale, rng), f"rendered scene {scene}"
        elif kind < config.simulated + config.one_date_share:
            crop, name = self._one_date.pair(config.crop, config.scale, rng)
        else:
            drawn = self.tiles[self._drawn(number)]
            crop, name = random_crop(Crop(*drawn.read()), config.crop, config.scale, rng), drawn.name
        return augment(crop, rng, config.other_sensors), name

    def _drawn(self, number: int) -> int:
        """Index of the tile: every tile is drawn once before any is drawn again."""
        turn, place = divmod(number, len(self._spread))
        return int(self._order(turn)[place])

    def _shuffled(self, turn: int) -> LongArray:
        return np.random.default_rng((self.config.seed, ORDER, turn)).permutation(self._spread)


def _built(crops: Sequence[Crop]) -> Tensor | None:
    """Presence labels of the crops, (N, 2, H, W)."""
    if all(crop.built is None for crop in crops):
        return None
    unknown = np.full((2, *crops[0].label.shape), IGNORED, np.uint8)
    return torch.from_numpy(np.stack([unknown if crop.built is None else crop.built for crop in crops]))


@lru_cache(maxsize=RENDERED)
def _rendered(number: int, side: int) -> Crop:
    """Render scene ``number`` of the training pool, with other seeds than tests and demo."""
    return rendered_crop(RENDERED_SEED + number, side)


def rendered_crop(seed: int, side: int) -> Crop:
    """Render a labelled scene of ``side`` px: layouts in turn, except the demo's, random pixel size."""
    from rscd.core.types import Window
    from rscd.simulate.scene import Scene
    from rscd.simulate.spec import LAYOUTS, SceneSpec

    layouts = [name for name in LAYOUTS if name != "demo"]  # held out
    rng = np.random.default_rng(seed)
    spec = SceneSpec(
        seed=seed,
        width=side,
        height=side,
        layout=layouts[seed % len(layouts)],
        gsd_m=round(float(np.exp(rng.uniform(*np.log(RENDERED_GSD_M)))), 3),
        change_share=float(rng.uniform(0.2, 0.6)),
        vanished_share=float(rng.uniform(0.1, 0.5)),
    )
    view = Scene(spec).render(Window(0, 0, side, side))
    label = (view.label > 0).astype(np.uint8) * np.uint8(CHANGED)
    return Crop(view.before, view.after, label, np.stack([view.before_built, view.after_built]).astype(np.uint8))
