"""Evaluate: accuracy of a model on labelled tiles and scenes, by pixels and objects, mapped as by ``detect``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rscd.core.contract import Contract
from rscd.core.errors import DataError
from rscd.core.grid import gsd_m
from rscd.core.types import NOT_OBSERVABLE, ByteArray
from rscd.inference.backends import MOST_CALLS
from rscd.inference.components import is_changed, threshold_value
from rscd.inference.predictor import Predictor, Windows
from rscd.model.registry import Model, embedded_contracts
from rscd.options.pair import PairConfig
from rscd.options.training import EvaluateConfig
from rscd.scene.pair import open_pair
from rscd.scene.prepare import prepare
from rscd.training.data.labels import open_label
from rscd.training.data.sources import PARTS, find_sources
from rscd.training.data.survey import raise_refused
from rscd.training.data.tiles import CHANGED, IGNORED, FolderTile, PairSource, find_part, find_tiles, has_layout
from rscd.training.evaluation.figures import write_pictures
from rscd.training.evaluation.maps import Map, Mapper
from rscd.training.evaluation.metrics import ObjectCounts, match_objects, mean_presence
from rscd.training.evaluation.scores import Counts, Evaluation, SceneScore, score_of
from rscd.vectorize.attributes import direction

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Case:
    """Prediction and ground truth of a tile or a scene."""

    name: str
    """Its path."""
    map: Map
    """The model's prediction."""
    label: ByteArray
    """uint8 array of UNCHANGED, CHANGED and IGNORED."""
    least_px: int
    """Minimum mapping unit, px."""


def evaluate(
    config: EvaluateConfig,
    *,
    model: tuple[nn.Module, Contract] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Map labelled tiles and scenes with the stages of ``detect``, and compare with the labels.

    Args:
        config: Data and options.
        model: A model from ``load_model``; default: ``config.model`` is loaded.
        progress: Called with scenes done and in total.

    Raises:
        UsageError: An option is out of range, or no data is given.
        DataError: Data cannot be used, or a scene does not fit the model.
        ModelError: The model was refused.
        OutputError: Pictures could not be written.
    """
    mapper = _mapper(config, Model.named(config.model) if model is None else Model.of(model))
    tiles, pairs = _find(config)
    total, scenes, objects, least = Counts(), list[SceneScore](), ObjectCounts(), set[int]()
    ways = Counter[str]()
    for case in _cases(config, mapper, tiles, pairs):
        values, presence = case.map
        judged = (case.label != IGNORED) & (values != NOT_OBSERVABLE)
        changed = judged & (case.label == CHANGED)
        own = Counts()
        own.add(values, judged, changed)
        found = judged & is_changed(values, mapper.threshold)
        matched = match_objects(changed, found, case.least_px)
        there = () if presence is None else mean_presence(found, presence, case.least_px)
        way = Counter(str(direction(before, after)) for before, after in there)
        scenes.append(score_of(case.name, own, matched, way, mapper.threshold))
        total.merge(own)
        objects += matched
        ways += way
        least.add(case.least_px)
        progress(len(scenes), len(tiles) + len(pairs))
    area = total.everywhere.average_precision()
    evaluation = Evaluation(
        model=f"{mapper.contract.name} {mapper.contract.version}",
        threshold=mapper.contract.threshold if config.threshold is None else config.threshold,
        minimum_px=(min(least), max(least)),
        average_precision=None if area is None else round(area, 4),
        total=score_of("all", total, objects, ways, mapper.threshold),
        scenes=tuple(scenes),
    )
    if config.output is not None:
        write_pictures(config.output, total.everywhere, evaluation)
    return evaluation


def _mapper(config: EvaluateConfig, model: Model) -> Mapper:
    contract = model.contract
    threshold = threshold_value(contract.threshold if config.threshold is None else config.threshold)
    windows = Windows.of(contract, config.window, config.overlap)
    calls = 1 if windows.fit else MOST_CALLS  # most tiles are single windows then
    return Mapper(Predictor.of(model, config, windows.side, calls=calls), contract, windows, threshold)


def _find(config: EvaluateConfig) -> tuple[list[FolderTile], list[PairSource]]:
    """Tiles and pairs, each tile's label is checked before anything is mapped."""
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
            refused.append(DataError(problem, path=folder, remedy="leave --split out to use all tiles"))
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
    """Map them one after the other."""
    low, high = mapper.contract.gsd_m
    gsd = config.gsd_m or (low * high) ** 0.5
    for tile in tiles:
        before, after, label = tile.read()
        yield Case(tile.name, mapper.of_tile(before, after, gsd), label, mapper.least_px(gsd))
    for source in pairs:
        how: PairConfig = replace(source.config, force_gsd=config.force_gsd)
        with open_pair(how, mapper.contract.bands) as opened:
            prepared = mapper.framed(prepare(opened, mapper.contract, how, embedded_contracts()))
            label = open_label(source, prepared.pair.full).read(prepared.pair.crop)
            least = mapper.least_px(gsd_m(prepared.pair.grid))
            yield Case(source.name, mapper.of_pair(prepared), label, least)
