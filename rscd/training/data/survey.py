"""Check of the labelled data before training: every label, everything that is refused, and the split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from rscd.core.errors import DataError
from rscd.options.training import LabelledConfig, TrainConfig
from rscd.training.data.sources import Sources, find_sources
from rscd.training.data.tiles import CHANGED, IGNORED, OnBad, Tile, find_part, find_tiles

HELD_OUT = 0.1
"""Minimum share of the tiles that is held out for validation if the data defines none."""
MANY_SCENES = 5
"""From this number of GeoTIFF pairs on, whole scenes are held out; with fewer, blocks of them."""
Progress = Callable[[int, int], None]
"""Called with tiles done and in total."""


@dataclass(frozen=True)
class TileFacts:
    """A tile and the contents of its label."""

    tile: Tile
    """The tile."""
    size: tuple[int, int]
    """Width and height, px."""
    changed: int
    """Changed pixels."""
    ignored: int
    """Pixels that are ignored in training and validation."""
    values: tuple[int, ...] = ()
    """Values in the label's file, if requested."""

    @property
    def judged(self) -> int:
        """Pixels that are changed or unchanged."""
        return self.size[0] * self.size[1] - self.ignored


@dataclass(frozen=True)
class Survey:
    """The labelled data."""

    training: tuple[TileFacts, ...]
    """Tiles to train on."""
    validation: tuple[TileFacts, ...]
    """Tiles for choosing epoch, threshold and temperature."""
    refused: tuple[DataError, ...]
    """Errors of all data that cannot be used."""
    split: str
    """Source of the validation tiles, as text."""

    def ready(self) -> tuple[list[Tile], list[Tile]]:
        """Tiles for training and for validation.

        Raises:
            DataError: Some data was refused; the first error, with the number of further ones.
        """
        raise_refused(self.refused)
        return [t.tile for t in self.training], [t.tile for t in self.validation]


def raise_refused(refused: Sequence[DataError]) -> None:
    """Stop if anything was refused.

    Raises:
        DataError: The first error, with the number of further ones.
    """
    if refused:
        first, more = refused[0], len(refused) - 1
        also = f"; {more} more refused, which rscd train --check lists" if more else ""
        raise DataError(first.problem, path=first.path, remedy=first.remedy + also)


def labelled_tiles(config: TrainConfig) -> tuple[list[Tile], list[Tile]]:
    """Tiles for training and for validation, every label checked.

    Raises:
        UsageError: No data is given.
        DataError: Some data cannot be used.
    """
    return survey(config).ready()


def with_pixel_sizes(config: TrainConfig, tiles: Sequence[Tile]) -> TrainConfig:
    """The options with the range of ground sample distances of the tiles, widened by half of the zoom (in octaves).

    Unchanged if a tile has no known pixel size, or if the user gave a range.
    """
    sizes = [size for tile in tiles if (size := tile.gsd_m()) is not None]
    if config.gsd_m is not None or len(sizes) < len(tiles):
        return config
    least, most = config.scale
    return replace(config, gsd_m=(round(min(sizes) / most**0.5, 3), round(max(sizes) / least**0.5, 3)))


def survey(config: TrainConfig, *, images: bool = False, progress: Progress = lambda done, total: None) -> Survey:
    """Find all labelled data, check every label, and split.

    Args:
        config: The data and options.
        images: Also decode the images and list the label values, which takes longer.
        progress: Called after each tile.

    Raises:
        UsageError: No data is given.
    """
    refused: list[DataError] = []
    found = find_sources(config, config.reviews, refused.append)
    tiles, held_out, split = _tiles(config, found, refused.append)
    look = partial(_look, images=images, on_bad=refused.append)
    total = len(tiles) + len(held_out)
    training = look(tiles, progress=lambda done: progress(done, total))
    validation = look(held_out, progress=lambda done: progress(len(tiles) + done, total))
    common = {t.tile.name for t in training} & {t.tile.name for t in validation}
    if common:
        where = sorted(common)[0]
        remedy = "name separate data with --val"
        refused.append(DataError("is among the training and the validation tiles", path=where, remedy=remedy))
    if not split and not refused:
        training, validation, split = hold_out(training, config.seed)
    if not refused:
        refused += _unfit(training, validation)
    return Survey(tuple(training), tuple(validation), tuple(refused), split)


def _tiles(config: TrainConfig, found: Sources, on_bad: OnBad) -> tuple[list[Tile], list[Tile], str]:
    """Training tiles, validation tiles, and the latter's source; without validation tiles if none are given."""
    tiles: list[Tile] = []
    held_out: list[Tile] = []
    for folder in found.folders:
        listed = find_part(folder, "train", on_bad)
        tiles += find_tiles([folder], on_bad) if listed is None else listed
        held_out += [] if config.validation else find_part(folder, "val", on_bad) or []
    tiles += _blocks(found, config, on_bad, whole=len(found.pairs) >= MANY_SCENES)
    split = "the data's own list or folder val" if held_out else ""
    if config.validation:
        split = ", ".join(map(str, config.validation))
        held_out = _given(config, on_bad)
    return tiles, held_out, split


def _given(config: TrainConfig, on_bad: OnBad) -> list[Tile]:
    """The tiles of ``--val``."""
    bands, after_bands = config.bands, config.after_bands
    how = LabelledConfig(
        config.validation, bands=bands, after_bands=after_bands, grid=config.grid, align=config.align
    )
    found = find_sources(how, (), on_bad)
    tiles: list[Tile] = []
    for folder in found.folders:
        listed = find_part(folder, "val", on_bad)
        tiles += find_tiles([folder], on_bad) if listed is None else listed
    return tiles + _blocks(found, config, on_bad, whole=True)


def _blocks(found: Sources, config: TrainConfig, on_bad: OnBad, *, whole: bool) -> list[Tile]:
    tiles: list[Tile] = []
    if not found.pairs:
        return tiles
    from rscd.training.data.scenes import input_scaling, pair_tiles

    scaling = input_scaling(config)
    for source in found.pairs:
        try:
            tiles += pair_tiles(source, scaling, whole=whole)
        except DataError as error:
            on_bad(error)
    return tiles


def _look(
    tiles: Iterable[Tile], *, images: bool, on_bad: OnBad, progress: Callable[[int], None]
) -> list[TileFacts]:
    facts = []
    for done, tile in enumerate(tiles, start=1):
        try:
            label = tile.read()[2] if images else tile.truth()
        except DataError as error:
            on_bad(error)
            continue
        finally:
            progress(done)
        height, width = label.shape
        changed, ignored = (int(np.count_nonzero(label == value)) for value in (CHANGED, IGNORED))
        values = tile.values() if images else ()
        facts.append(TileFacts(tile, (width, height), changed, ignored, values))
    return facts


def hold_out(facts: Sequence[TileFacts], seed: int) -> tuple[list[TileFacts], list[TileFacts], str]:
    """Split tiles into training and validation, seeded: whole scenes, HELD_OUT of the tiles or slightly more.

    Validation takes scenes until one of them has a changed pixel, and leaves at least one such scene for training.
    """
    scenes: dict[str, list[int]] = {}
    for i, fact in enumerate(facts):
        scenes.setdefault(fact.tile.scene, []).append(i)
    groups = list(scenes.values()) if len(scenes) > 1 else [[i] for i in range(len(facts))]
    wanted, taken, changed = max(1, round(HELD_OUT * len(facts))), list[int](), 0
    left = sum(any(facts[i].changed for i in group) for group in groups)
    needed = left > 1
    for g in np.random.default_rng(seed).permutation(len(groups)):
        if len(taken) >= wanted and (changed or not needed):
            break
        has = any(facts[i].changed for i in groups[g])
        if has and left == 1:
            continue
        left -= has
        changed += has
        taken += groups[g]
    held = set(taken)
    words = f"held out: {len(held)} of {len(facts)} tiles, seed {seed}"
    words += ", whole scenes" if len(groups) < len(facts) else ""
    training = [fact for i, fact in enumerate(facts) if i not in held]
    return training, [facts[i] for i in sorted(held)], words


def _unfit(training: Sequence[TileFacts], validation: Sequence[TileFacts]) -> list[DataError]:
    """Why valid tiles cannot be used for training together."""
    remedy = "give more tiles, some of them with changes, or --val DATA"
    if not training or not validation:
        return [DataError(f"{len(training) + len(validation)} tile(s): too few to split", remedy=remedy)]
    unfit = []
    for name, facts in (("training", training), ("validation", validation)):
        if not any(fact.changed for fact in facts):
            where = _common(facts)
            problem = f"no changed pixel in the {len(facts)} {name} tile(s)"
            unfit.append(DataError(problem, path=where, remedy=remedy))
    return unfit


def _common(facts: Sequence[TileFacts]) -> Path:
    """The folder or file that the tiles' names have in common."""
    first = facts[0].tile.name
    path = Path(first.split(" at row ")[0])
    return path if " at row " in first else path.parents[1]
