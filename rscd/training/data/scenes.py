"""A labelled pair of GeoTIFFs as training tiles: blocks of its grid, read as ``detect`` reads them."""

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
"""Side of a block in px, and of the blocks of a scene with too few blocks of that size (``ENOUGH``)."""
ENOUGH = 12
KEPT = 128
"""Blocks that are cached once read, 2 MB each."""


@dataclass(frozen=True, eq=False)
class LabelledPair:
    """A checked pair; its files are opened again for each read, so that threads can read at the same time."""

    source: PairSource
    """Files and options."""
    pair: Pair
    """How the dates are read: measured shift and scaling. Its files are closed."""
    label: Label
    """Labels on the pair's full grid."""

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
        """The pair with its files open, read exactly as when it was prepared."""
        with open_pair(replace(self.source.config, aoi=None)) as fresh:
            before = replace(self.pair.before, raster=fresh.before.raster, mask=fresh.before.mask)
            after = replace(self.pair.after, raster=fresh.after.raster, mask=fresh.after.mask)
            yield replace(self.pair, before=before, after=after)


@dataclass(frozen=True)
class PairTile:
    """A block of a labelled pair."""

    of: LabelledPair
    """The pair that it is part of."""
    window: Window
    """The block, in px of the pair's full grid."""
    scene: str
    """Unit of the split between training and validation: the block, or the scene."""

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
        """Ground sample distance of the pair's grid, m."""
        return self.of.gsd_m

    def values(self) -> tuple[int, ...]:
        """Values of a raster's labels in memory; empty for polygons."""
        return () if isinstance(self.of.label, VectorLabel) else tuple(np.unique(self.truth()).tolist())

    def read(self) -> Triple:
        """Images as ``detect`` passes them to a network, and the label, IGNORED where a date is not observable.

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
    """Scaling of the model that training starts from, else of the encoder.

    Raises:
        ModelError: The starting model cannot be used.
    """
    if config.init is not None:
        contract = read_contract(find_model(str(config.init)))
        return contract.mean, contract.std
    return normalisation(config.encoder or "lite")


def pair_tiles(source: PairSource, scaling: Scaling, *, whole: bool) -> list[PairTile]:
    """Cut a pair into blocks; those without a labelled pixel are left out.

    Args:
        source: The pair.
        scaling: Scaling for pixels that are not 8-bit.
        whole: Keep the scene on one side of the split; else each block is split by itself, and shares no pixel.

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
    """Equal blocks of about SIDE px, or of about LEAST_SIDE if there would be few."""
    side = SIDE if region.height * region.width >= ENOUGH * SIDE**2 else LEAST_SIDE
    rows, cols = _cuts(region.row, region.height, side), _cuts(region.col, region.width, side)
    for top, bottom in pairwise(rows):
        for left, right in pairwise(cols):
            yield Window(top, left, bottom - top, right - left)


def _cuts(start: int, length: int, side: int) -> list[int]:
    parts = max(1, round(length / side))
    return [start + length * i // parts for i in range(parts + 1)]
