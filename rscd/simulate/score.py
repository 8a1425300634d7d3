"""Comparison of found and built objects: one-to-one matches by intersection over union."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from rasterio.features import shapes
from scipy.ndimage import uniform_filter
from shapely.geometry import shape

from rscd.core.types import BoolArray, ByteArray


@dataclass(frozen=True)
class ObjectScore:
    """Numbers of built, found and matched objects."""

    built: int
    """Objects in the ground truth."""
    found: int
    """Predicted objects."""
    matched: int
    """Pairs of a built and a found object, each used once."""

    @property
    def recall(self) -> float:
        """Share of the built objects that were found, 0..1; 1 if nothing was built."""
        return self.matched / self.built if self.built else 1.0

    @property
    def false_share(self) -> float:
        """Share of the found objects without a match, 0..1; 0 if nothing was found."""
        return 1 - self.matched / self.found if self.found else 0.0

    @property
    def f1(self) -> float:
        """2 matched / (built + found), 0..1."""
        return 2 * self.matched / max(self.built + self.found, 1)


def match_objects(built: np.ndarray, found: np.ndarray, least_iou: float = 0.3) -> ObjectScore:
    """Match polygons greedily, highest intersection over union first, each at most once.

    Args:
        built: Shapely polygons (n,) of the ground truth.
        found: Shapely polygons (m,) of the prediction, in the same coordinates.
        least_iou: Minimum intersection over union of a match.
    """
    score = ObjectScore(len(built), len(found), 0)
    if not score.built or not score.found:
        return score
    mine, other = shapely.STRtree(found).query(built, predicate="intersects")
    common = shapely.area(shapely.intersection(built[mine], found[other]))
    iou = common / (shapely.area(built[mine]) + shapely.area(found[other]) - common)
    taken_built, taken_found = set[int](), set[int]()
    for i in np.argsort(-iou, kind="stable"):
        if iou[i] < least_iou:
            break
        if mine[i] not in taken_built and other[i] not in taken_found:
            taken_built.add(int(mine[i]))
            taken_found.add(int(other[i]))
    return ObjectScore(score.built, score.found, len(taken_built))


def differencing(
    before: ByteArray, after: ByteArray, valid: BoolArray, built: np.ndarray, least_px: int
) -> tuple[int, ObjectScore]:
    """Score of plain differencing at its best threshold: the baseline that a model must beat.

    The mean of |after - before| over bands is smoothed over 3 x 3 px, thresholded at 10, 15 ... 120, split into
    4-connected objects of at least ``least_px`` px, and matched to ``built`` (polygons in pixel coordinates, x =
    column, y = row). Returns the threshold with the best object F1, and its score.
    """
    size = np.abs(after.astype(np.float32) - before).mean(axis=0)
    size = uniform_filter(size, 3) * valid
    best, best_score = 0, ObjectScore(len(built), 0, 0)
    for threshold in range(10, 125, 5):
        mask = size >= threshold
        found = [shape(g) for g, _ in shapes(mask.astype(np.uint8), mask=mask, connectivity=4)]
        large = np.array([p for p in found if p.area >= least_px], dtype=object)
        score = match_objects(built, large)
        if score.f1 > best_score.f1:
            best, best_score = threshold, score
    return best, best_score
