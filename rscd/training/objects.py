"""Changed objects, 4-connected: those found against those that are there, matched one to one; and their edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, label

from rscd.training.metrics import Scores, scores
from rscd.types import BoolArray, IntArray, LongArray

LEAST_IOU = 0.5
"""A pair of objects whose intersection over union is below this is no match."""


@dataclass(frozen=True)
class ObjectCounts:
    """How many objects are there, were found, and were found right."""

    there: int = 0
    """Objects of the label."""
    found: int = 0
    """Objects of the prediction."""
    matched: int = 0
    """Pairs of the two, each object used once."""

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        return ObjectCounts(self.there + other.there, self.found + other.found, self.matched + other.matched)

    @property
    def scores(self) -> Scores:
        """Precision, recall, F1 and IoU over objects."""
        return scores(self.matched, self.found - self.matched, self.there - self.matched)


def match_objects(there: BoolArray, found: BoolArray, least_px: int = 1) -> ObjectCounts:
    """Match the components of two masks (rows, columns) greedily, largest intersection over union first.

    Args:
        there: What is changed.
        found: What was called changed.
        least_px: Components with fewer pixels are left out, on both sides.
    """
    (one, sizes), (other, found_sizes) = (_components(mask, least_px) for mask in (there, found))
    n, m = int((sizes > 0).sum()), int((found_sizes > 0).sum())
    both = (one > 0) & (other > 0)
    pairs, common = np.unique(np.stack([one[both], other[both]]), axis=1, return_counts=True)
    iou = common / (sizes[pairs[0]] + found_sizes[pairs[1]] - common)
    used_there, used_found = set[int](), set[int]()
    for i in np.argsort(-iou, kind="stable"):
        a, b = int(pairs[0, i]), int(pairs[1, i])
        if iou[i] < LEAST_IOU:
            break
        if a not in used_there and b not in used_found:
            used_there.add(a)
            used_found.add(b)
    return ObjectCounts(n, m, len(used_there))


def near_edges(changed: BoolArray, px: float) -> BoolArray:
    """Pixels of a mask (rows, columns) within ``px`` of one that is the other way, centre to centre."""
    near = np.zeros(changed.shape, np.bool_)
    if changed.any() and not changed.all():
        for side in (changed, ~changed):
            near |= side & (distance_transform_edt(side) <= px)
    return near


def _components(mask: BoolArray, least_px: int) -> tuple[IntArray, LongArray]:
    """Labels, 0 where nothing or too little is, and pixels a label (0 for the background and what is left out)."""
    labels, _ = label(mask, output=np.int32)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    sizes[sizes < least_px] = 0
    labels[sizes[labels] == 0] = 0
    return labels, sizes
