"""A labelled pair of GeoTIFFs as tiles for training: blocks of its grid, read as ``detect`` reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np

from rscd.core.contract import Contract
from rscd.core.grid import gsd_m
from rscd.core.types import BoolArray, ByteArray, Window
from rscd.model.catalog import find_model, read_contract
from rscd.model.encoders import normalisation
from rscd.options.training import TrainConfig
from rscd.scene.files import fingerprint
from rscd.scene.pair import Pair, open_pair
from rscd.scene.prepare import prepare
from rscd.scene.radiometry import to_bytes
from rscd.scene.raster import fill_invalid
from rscd.training.data.labels import Label, VectorLabel, open_label
from rscd.training.data.tiles import IGNORED, PairSource, Triple

SIDE, LEAST_SIDE = 512, 256
"""Side of a block in px, and of the blocks of a scene too small for ENOUGH of those."""
ENOUGH = 12
KEPT = 128
"""Blocks that are kept in memory once read, 2 MB each."""


@dataclass(frozen=True, eq=False)
class LabelledPair:
    """A pair that was opened once and found fit; each read opens it again, so that threads may read at once."""

    source: PairSource
    """Files and options."""
    pair: Pair
    """How the dates are read: shift and scaling as they were found. Its files are closed."""
    label: Label
    """On the pair's full grid."""

    @cached_property
    def images(self) -> tuple[str, str]:
        """Fingerprints of the two files."""
        files = self.source.config.before, self.source.config.after
        before, after = (str(fingerprint(path)["sampled_sha256"]) for path in files)
        return before, after

    @cached_property
    def gsd_m(self) -> float:
        """Ground sample distance of the grid, m."""
        return gsd_m(self.pair.full)

    @contextmanager
    def opened(self) -> Iterator[Pair]:
        """The pair with its files open, read just as when it was prepared."""
        with open_pair(replace(self.source.config, aoi=None)) as fresh:
            before = replace(self.pair.before, raster=fresh.before.raster, mask=fresh.before.mask)
            after = replace(self.pair.after, raster=fresh.after.raster, mask=fresh.after.mask)
            yield replace(self.pair, before=before, after=after)


@dataclass(frozen=True)
class PairTile:
    """A block of a labelled pair."""

    of: LabelledPair
    """The pair."""
    window: Window
    """The block, in px of the pair's full grid."""
    scene: str
    """What stays on one side of the split: the block, or the scene."""

    @property
    def name(self) -> str:
        """Pair and corner of the block."""
        return f"{self.of.source.name} at row {self.window.row}, column {self.window.col}"

    def pixels(self) -> int:
        """Pixels of the block."""
        return self.window.height * self.window.width

    def truth(self) -> ByteArray:
        """The label (h, w), IGNORED outside the area of interest.

        Raises:
            DataError: It cannot be read.
        """
        label = self.of.label.read(self.window)
        if self.of.pair.aoi is not None:
            label[~self.of.pair.aoi.mask(self.window)] = IGNORED
        return label

    def contents(self) -> list[str]:
        """Fingerprints of the images, place of the block, and sha256 of the label."""
        label = hashlib.sha256(self.truth().tobytes()).hexdigest()
        return ["|".join((*self.of.images, *map(str, self.window), label))]

    def gsd_m(self) -> float | None:
        """That of the pair's grid."""
        return self.of.gsd_m

    def values(self) -> tuple[int, ...]:
        """Values of a raster's labels in memory; none where polygons are burnt."""
        return () if isinstance(self.of.label, VectorLabel) else tuple(np.unique(self.truth()).tolist())

    def read(self) -> Triple:
        """Images as ``detect`` shows them to a network, and the label, IGNORED where a date shows nothing.

        Raises:
            DataError: A block cannot be decoded.
        """
        return _read(self)


@lru_cache(maxsize=KEPT)
def _read(tile: PairTile) -> Triple:
    with tile.of.opened() as pair:
        (before, seen), (after, seen_too) = (date.read(tile.window) for date in (pair.before, pair.after))
    shown: BoolArray = seen & seen_too
    label = tile.truth()
    label[~shown] = IGNORED
    return fill_invalid(to_bytes(before), shown), fill_invalid(to_bytes(after), shown), label


Scaling = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of a network's input, 0..255."""


def input_scaling(config: TrainConfig) -> Scaling:
    """That of the model that training starts from, else that of the encoder.

    Raises:
        ModelError: The starting model cannot be used.
    """
    if config.init is not None:
        contract = read_contract(find_model(str(config.init)))
        return contract.mean, contract.std
    return normalisation(config.encoder or "lite")


def pair_tiles(source: PairSource, scaling: Scaling, *, whole: bool) -> list[PairTile]:
    """Cut a pair into blocks; those without a pixel to judge are left out.

    Args:
        source: The pair.
        scaling: What other than 8-bit pixels are brought to.
        whole: The scene stays on one side of the split; else each block is on its own, and shares no pixel.

    Raises:
        DataError: The pair or its labels cannot be used.
    """
    mean, std = scaling
    contract = Contract(name="training", version="1", encoder="none", width=64, mean=mean, std=std)
    config = replace(source.config, force_gsd=True)  # a new model may have any pixel size
    with open_pair(config) as opened:
        pair = prepare(opened, contract, config).pair
        labelled = LabelledPair(source, pair, open_label(source, pair.full))
    tiles = []
    for block in _blocks(pair.region):
        tile = PairTile(labelled, block, source.name)
        tile = tile if whole else replace(tile, scene=tile.name)
        if np.any(tile.truth() != IGNORED):
            tiles.append(tile)
    return tiles


def _blocks(region: Window) -> Iterator[Window]:
    """Even blocks of about SIDE px, or of about LEAST_SIDE where those would be few."""
    side = SIDE if region.height * region.width >= ENOUGH * SIDE**2 else LEAST_SIDE
    rows, cols = _cuts(region.row, region.height, side), _cuts(region.col, region.width, side)
    for top, bottom in pairwise(rows):
        for left, right in pairwise(cols):
            yield Window(top, left, bottom - top, right - left)


def _cuts(start: int, length: int, side: int) -> list[int]:
    parts = max(1, round(length / side))
    return [start + length * i // parts for i in range(parts + 1)]
