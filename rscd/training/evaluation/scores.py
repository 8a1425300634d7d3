"""Scores of an evaluation: per tile or scene, and for all together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rscd.core.types import P_SCALE, BoolArray, ByteArray
from rscd.training.evaluation.metrics import Confusion, ObjectCounts, PixelCounts, Scores, near_edges

EDGES_PX = 2, 4
"""Distances from label edges within which pixels are also scored separately, px."""


@dataclass(frozen=True)
class SceneScore:
    """Metrics of one tile or scene, or of all together.

    Shares are 0..1, and None where there is nothing to share: e.g. recall and F1 of a tile where nothing changed
    and nothing was found.
    """

    name: str
    """Its path, or ``all``."""
    pixels: int
    """Scored pixels: observable in both dates, and labelled."""
    tp: int
    """Changed pixels, predicted as changed."""
    fp: int
    """Unchanged pixels, predicted as changed."""
    fn: int
    """Changed pixels, predicted as unchanged."""
    tn: int
    """Unchanged pixels, predicted as unchanged."""
    precision: float | None
    """Precision of pixels."""
    recall: float | None
    """Recall of pixels."""
    f1: float | None
    """F1 of pixels."""
    iou: float | None
    """Intersection over union of pixels of the class *changed*."""
    accuracy: float
    """Overall accuracy: share of correctly classified pixels."""
    ece: float
    """Expected calibration error of p, 15 bins."""
    edge_f1_2px: float | None
    """F1 of the pixels within 2 px of label edges: how exactly outlines are drawn. Completely wrong objects do not
    count. (A trimap, as in Kohli et al. 2009.)"""
    edge_f1_4px: float | None
    """The same within 4 px."""
    objects_there: int
    """4-connected objects in the label, at least as large as the minimum mapping unit."""
    objects_found: int
    """The same in the map."""
    objects_matched: int
    """Matched pairs of these with an intersection over union of 0.5 or more."""
    object_precision: float | None
    """Precision of objects."""
    object_recall: float | None
    """Recall of objects."""
    object_f1: float | None
    """F1 of objects."""
    directions: dict[str, int]
    """Objects in the map by ``direction``; empty if the model has no presence head."""


@dataclass(frozen=True)
class Evaluation:
    """The result of ``rscd evaluate``."""

    model: str
    """Name and version."""
    threshold: float
    """Calibrated probability from which a pixel counted as changed."""
    minimum_px: tuple[int, int]
    """Smallest and largest minimum mapping unit over the scenes, px: smaller objects are ignored in map and
    label."""
    average_precision: float | None
    """Area under the precision-recall curve of pixels, 0..1; None if no pixel changed."""
    total: SceneScore
    """All pixels and objects together."""
    scenes: tuple[SceneScore, ...]
    """Scores per tile or scene."""


@dataclass
class Counts:
    """Pixel counts by truth and predicted p: of all pixels, and of those near label edges."""

    everywhere: PixelCounts = field(default_factory=PixelCounts.of_values)
    near: tuple[PixelCounts, ...] = field(default_factory=lambda: tuple(PixelCounts.of_values() for _ in EDGES_PX))

    def add(self, values: ByteArray, judged: BoolArray, changed: BoolArray) -> None:
        """Count the pixels of a map; ``judged`` and ``changed`` are (rows, columns), as ``values``."""
        self.everywhere.add_values(values[judged], changed[judged])
        for px, counts in zip(EDGES_PX, self.near, strict=True):
            part = judged & near_edges(changed, px)
            counts.add_values(values[part], changed[part])

    def merge(self, other: Counts) -> None:
        """Add other counts."""
        for mine, theirs in zip((self.everywhere, *self.near), (other.everywhere, *other.near), strict=True):
            mine.merge(theirs)


def score_of(
    name: str, found: Counts, objects: ObjectCounts, directions: Mapping[str, int], threshold: int
) -> SceneScore:
    """Metrics of counted pixels and matched objects at a threshold (1..254)."""
    counts = found.everywhere
    pixels = counts.confusion(threshold / P_SCALE)
    precision, recall, f1, iou = _of_pixels(pixels)
    edge_f1 = [_of_pixels(near.confusion(threshold / P_SCALE))[2] for near in found.near]
    of_objects = _shares(objects.scores, objects.found, objects.there)
    return SceneScore(
        name=name,
        pixels=int(np.sum(counts.changed) + np.sum(counts.unchanged)),
        tp=pixels.tp,
        fp=pixels.fp,
        fn=pixels.fn,
        tn=pixels.tn,
        precision=precision,
        recall=recall,
        f1=f1,
        iou=iou,
        accuracy=round(pixels.accuracy, 4),
        ece=round(counts.calibration_error(), 4),
        edge_f1_2px=edge_f1[0],
        edge_f1_4px=edge_f1[1],
        objects_there=objects.there,
        objects_found=objects.found,
        objects_matched=objects.matched,
        object_precision=of_objects[0],
        object_recall=of_objects[1],
        object_f1=of_objects[2],
        directions=dict(sorted(directions.items())),
    )


def _of_pixels(pixels: Confusion) -> tuple[float | None, ...]:
    return _shares(pixels.scores, pixels.tp + pixels.fp, pixels.tp + pixels.fn)


def _shares(of: Scores, found: int, there: int) -> tuple[float | None, ...]:
    """Precision, recall, F1 and intersection over union, rounded; None without a denominator.

    Args:
        of: The scores.
        found: Number of predicted pixels or objects.
        there: Number of labelled ones.
    """
    parts = (of.precision, found), (of.recall, there), (of.f1, found + there), (of.iou, found + there)
    return tuple(round(share, 4) if whole else None for share, whole in parts)
