"""Evaluate: how right a model is on labelled tiles and scenes, by pixels and objects, mapped as by ``detect``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from rscd.config import EvaluateConfig, PairConfig
from rscd.errors import DataError
from rscd.inference.predictor import Predictor, choose_window
from rscd.model.contract import Contract
from rscd.model.registry import load_model
from rscd.output.components import is_changed, threshold_value
from rscd.scene.grid import gsd_m
from rscd.scene.pair import open_pair
from rscd.scene.prepare import prepare
from rscd.training.labels import open_label
from rscd.training.maps import Mapper
from rscd.training.metrics import PixelCounts
from rscd.training.objects import ObjectCounts, match_objects, near_edges
from rscd.training.pictures import write_pictures
from rscd.training.sources import PARTS, PairSource, find_sources
from rscd.training.survey import raise_refused
from rscd.training.tiles import CHANGED, IGNORED, FolderTile, find_part, find_tiles, has_layout
from rscd.types import NOT_OBSERVABLE, P_SCALE, BoolArray, ByteArray

if TYPE_CHECKING:
    from torch import nn


EDGES_PX = 2, 4
"""Distances from an edge of the label within which pixels are judged by themselves, too, px."""


@dataclass(frozen=True)
class SceneScore:
    """Figures of one tile or scene, or of all together. Shares are 0..1."""

    name: str
    """Its path, or ``all``."""
    pixels: int
    """Pixels that were judged: observable in both dates, and labelled."""
    tp: int
    """Changed pixels that were called so."""
    fp: int
    """Unchanged pixels that were called changed."""
    fn: int
    """Changed pixels that were called unchanged."""
    tn: int
    """Unchanged pixels that were called so."""
    precision: float
    """Of pixels."""
    recall: float
    """Of pixels."""
    f1: float
    """Of pixels."""
    iou: float
    """Of pixels, of the class *changed*."""
    accuracy: float
    """Overall accuracy: pixels called right."""
    ece: float
    """Expected calibration error of p, 15 bins."""
    edge_f1_2px: float
    """F1 of the pixels within 2 px of an edge of the label: how sharply outlines are drawn. Objects that are wrong
    altogether do not count. (A trimap, as in Kohli et al. 2009.)"""
    edge_f1_4px: float
    """Likewise within 4 px."""
    objects_there: int
    """4-connected objects of the label, of the minimum mapping unit or larger."""
    objects_found: int
    """Likewise of the map."""
    objects_matched: int
    """Pairs of the two with an intersection over union of 0.5 or more."""
    object_precision: float
    """Of objects."""
    object_recall: float
    """Of objects."""
    object_f1: float
    """Of objects."""


@dataclass(frozen=True)
class Evaluation:
    """What ``rscd evaluate`` tells."""

    model: str
    """Name and version."""
    threshold: float
    """Calibrated p from which a pixel counted as changed."""
    minimum_px: tuple[int, int]
    """Least and largest minimum mapping unit over the scenes, px: smaller objects are left out on both sides."""
    average_precision: float
    """Area under the precision-recall curve of pixels, 0..1."""
    total: SceneScore
    """All pixels and objects together."""
    scenes: tuple[SceneScore, ...]
    """One by one."""


@dataclass(frozen=True)
class Case:
    """A labelled map: what a model says of a tile or a scene, and what is so."""

    name: str
    """Its path."""
    values: ByteArray
    """Probability values (rows, columns)."""
    label: ByteArray
    """UNCHANGED, CHANGED and IGNORED."""
    least_px: int
    """The minimum mapping unit."""


def evaluate(
    config: EvaluateConfig,
    *,
    model: tuple[nn.Module, Contract] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Map labelled tiles and scenes with a model, through the stages of ``detect``, and compare.

    Args:
        config: Data and options.
        model: A model from ``load_model``; default: ``config.model`` is loaded.
        progress: Called with scenes done and scenes in all.

    Raises:
        UsageError: An option out of range, or no data.
        DataError: Data that cannot be used, or a scene that the model does not take.
        ModelError: The model was refused.
        OutputError: Pictures could not be written.
    """
    mapper = _mapper(config, model or load_model(config.model))
    tiles, pairs = _find(config)
    total, scenes, objects, least = _Counts(), list[SceneScore](), ObjectCounts(), set[int]()
    for case in _cases(config, mapper, tiles, pairs):
        judged = (case.label != IGNORED) & (case.values != NOT_OBSERVABLE)
        changed = judged & (case.label == CHANGED)
        own = _Counts()
        own.add(case.values, judged, changed)
        matched = match_objects(changed, judged & is_changed(case.values, mapper.threshold), case.least_px)
        scenes.append(_score(case.name, own, matched, mapper.threshold))
        total.merge(own)
        objects += matched
        least.add(case.least_px)
        progress(len(scenes), len(tiles) + len(pairs))
    told = Evaluation(
        model=f"{mapper.contract.name} {mapper.contract.version}",
        threshold=mapper.contract.threshold if config.threshold is None else config.threshold,
        minimum_px=(min(least), max(least)),
        average_precision=round(total.everywhere.average_precision(), 4),
        total=_score("all", total, objects, mapper.threshold),
        scenes=tuple(scenes),
    )
    if config.output is not None:
        write_pictures(config.output, total.everywhere, told)
    return told


@dataclass
class _Counts:
    """Pixels by what they are and what p they have: all of them, and those near edges of the label."""

    everywhere: PixelCounts = field(default_factory=PixelCounts.of_values)
    near: tuple[PixelCounts, ...] = field(default_factory=lambda: tuple(PixelCounts.of_values() for _ in EDGES_PX))

    def add(self, values: ByteArray, judged: BoolArray, changed: BoolArray) -> None:
        self.everywhere.add_values(values[judged], changed[judged])
        for px, counts in zip(EDGES_PX, self.near, strict=True):
            part = judged & near_edges(changed, px)
            counts.add_values(values[part], changed[part])

    def merge(self, other: _Counts) -> None:
        for mine, theirs in zip((self.everywhere, *self.near), (other.everywhere, *other.near), strict=True):
            mine.merge(theirs)


def _mapper(config: EvaluateConfig, model: tuple[nn.Module, Contract]) -> Mapper:
    network, contract = model
    threshold = threshold_value(contract.threshold if config.threshold is None else config.threshold)
    predictor = Predictor.of(network, contract, config)
    return Mapper(predictor, contract, *choose_window(config.window, config.overlap, contract), threshold)


def _find(config: EvaluateConfig) -> tuple[list[FolderTile], list[PairSource]]:
    """Tiles and pairs, each tile's label looked at before anything is mapped."""
    refused: list[DataError] = []
    found = find_sources(config, (), refused.append)
    tiles: list[FolderTile] = []
    for folder in found.folders:
        parts = [part for part in PARTS if has_layout(folder / part)]
        listed = None if config.split is None else find_part(folder, config.split, refused.append)
        if listed is not None:
            tiles += listed
        elif config.split is not None:
            problem = f"has no list/{config.split}.txt and no folder {config.split}/"
            refused.append(DataError(problem, path=folder, remedy="leave --split out to take all tiles"))
        elif parts and not has_layout(folder):
            remedy = "name one of them, or give --split"
            refused.append(DataError(f"holds tiles in {', '.join(parts)}", path=folder, remedy=remedy))
        else:
            tiles += find_tiles([folder], refused.append)
    for tile in tiles:
        try:
            tile.truth()
        except DataError as error:
            refused.append(error)
    raise_refused(refused)
    return tiles, found.pairs


def _cases(
    config: EvaluateConfig, mapper: Mapper, tiles: list[FolderTile], pairs: list[PairSource]
) -> Iterator[Case]:
    """Map one after the other."""
    low, high = mapper.contract.gsd_m
    gsd = config.gsd_m or (low * high) ** 0.5
    for tile in tiles:
        before, after, label = tile.read()
        yield Case(tile.name, mapper.of_tile(before, after, gsd), label, mapper.least_px(gsd))
    for source in pairs:
        how: PairConfig = replace(source.config, force_gsd=config.force_gsd)
        with open_pair(how, mapper.contract.bands) as opened:
            prepared = mapper.framed(prepare(opened, mapper.contract, how))
            label = open_label(source, prepared.pair.full).read(prepared.pair.crop)
            least = mapper.least_px(gsd_m(prepared.pair.grid))
            yield Case(source.name, mapper.of_pair(prepared), label, least)


def _score(name: str, found: _Counts, objects: ObjectCounts, threshold: int) -> SceneScore:
    counts, things = found.everywhere, objects.scores
    pixels, near = counts.confusion(threshold / P_SCALE), [c.at(threshold / P_SCALE).f1 for c in found.near]
    of = pixels.scores
    return SceneScore(
        name=name,
        pixels=int(np.sum(counts.changed) + np.sum(counts.unchanged)),
        tp=pixels.tp,
        fp=pixels.fp,
        fn=pixels.fn,
        tn=pixels.tn,
        precision=round(of.precision, 4),
        recall=round(of.recall, 4),
        f1=round(of.f1, 4),
        iou=round(of.iou, 4),
        accuracy=round(pixels.accuracy, 4),
        ece=round(counts.calibration_error(), 4),
        edge_f1_2px=round(near[0], 4),
        edge_f1_4px=round(near[1], 4),
        objects_there=objects.there,
        objects_found=objects.found,
        objects_matched=objects.matched,
        object_precision=round(things.precision, 4),
        object_recall=round(things.recall, 4),
        object_f1=round(things.f1, 4),
    )
