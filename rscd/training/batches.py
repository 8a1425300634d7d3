"""Batches of crops. What sample number n is depends on the seed and n alone: any run can begin at any step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from rscd.config import TrainConfig
from rscd.training.augment import Crop, augment, random_crop
from rscd.training.tiles import CHANGED, Tile, Triple
from rscd.types import LongArray

RENDERED, RENDERED_SEED = 256, 1_000_000
"""Rendered scenes in the training pool, and the seed of the first."""
ORDER, SAMPLE = 0, 1
"""What a generator is for, beside the seed: the order of tiles, or all that is random of one sample."""


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
    """Where each crop is from."""


class Batches:
    """The crops of a run.

    Args:
        tiles: Labelled tiles, in an order that does not change.
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
                before, after, label = (torch.from_numpy(np.stack(part)) for part in zip(*crops, strict=True))
                yield Batch(before, after, label, names)

    def sample(self, number: int) -> tuple[Crop, str]:
        """Make sample ``number`` of the run, and tell where it is from."""
        rng = np.random.default_rng((self.config.seed, SAMPLE, number))
        if rng.random() < self.config.simulated:
            scene = int(rng.integers(RENDERED))
            tile, name = _rendered(scene, 2 * self.config.crop), f"rendered scene {scene}"
        else:
            drawn = self.tiles[self._drawn(number)]
            tile, name = drawn.read(), drawn.name
        return augment(random_crop(tile, self.config.crop, self.config.scale, rng), rng), name

    def _drawn(self, number: int) -> int:
        """Which tile: all are drawn before one is drawn again."""
        turn, place = divmod(number, len(self._spread))
        return int(self._order(turn)[place])

    def _shuffled(self, turn: int) -> LongArray:
        return np.random.default_rng((self.config.seed, ORDER, turn)).permutation(self._spread)


@lru_cache(maxsize=RENDERED)
def _rendered(number: int, side: int) -> Triple:
    """Render scene ``number`` of the training pool: the layouts in turn, seeds apart from tests and demo."""
    from rscd.simulate import LAYOUTS, Scene, SceneSpec
    from rscd.types import Window

    layouts = [name for name in LAYOUTS if name != "demo"]  # held out
    layout = layouts[number % len(layouts)]
    scene = Scene(SceneSpec(seed=RENDERED_SEED + number, width=side, height=side, layout=layout))
    view = scene.render(Window(0, 0, side, side))
    return view.before, view.after, (view.label > 0).astype(np.uint8) * np.uint8(CHANGED)
