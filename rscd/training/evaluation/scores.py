"""Scores of an evaluation: of each tile or scene, and of all together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rscd.core.types import P_SCALE, BoolArray, ByteArray
from rscd.training.evaluation.metrics import ObjectCounts, PixelCounts, near_edges

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
    directions: dict[str, int]
    """Objects of the map by ``direction``; empty where the model has no presence head."""


@dataclass(frozen=True)
class Evaluation:
    """The result of ``rscd evaluate``."""

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


@dataclass
class Counts:
    """Pixels by what they are and what p they have: all of them, and those near edges of the label."""

    everywhere: PixelCounts = field(default_factory=PixelCounts.of_values)
    near: tuple[PixelCounts, ...] = field(default_factory=lambda: tuple(PixelCounts.of_values() for _ in EDGES_PX))

    def add(self, values: ByteArray, judged: BoolArray, changed: BoolArray) -> None:
        """Count the pixels of a map; ``judged`` and ``changed`` are (rows, columns), as ``values``."""
        self.everywhere.add_values(values[judged], changed[judged])
        for px, counts in zip(EDGES_PX, self.near, strict=True):
            part = judged & near_edges(changed, px)
            counts.add_values(values[part], changed[part])

    def merge(self, other: Counts) -> None:
        """Add the counts of another."""
        for mine, theirs in zip((self.everywhere, *self.near), (other.everywhere, *other.near), strict=True):
            mine.merge(theirs)


def score_of(
    name: str, found: Counts, objects: ObjectCounts, directions: Mapping[str, int], threshold: int
) -> SceneScore:
    """The figures of counted pixels and matched objects at a threshold (1..254)."""
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
        directions=dict(sorted(directions.items())),
    )
