"""Metrics: confusion, calibration and precision-recall of pixels, and matched objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, label

from rscd.core.types import P_SCALE, BoolArray, ByteArray, DoubleArray, FloatArray, IntArray, LongArray

LOGIT_LIMIT, LOGIT_STEP = 16.0, 0.05
"""Logits are counted in bins of LOGIT_STEP between -LOGIT_LIMIT and LOGIT_LIMIT."""


@dataclass(frozen=True)
class Scores:
    """Precision, recall, F1 and intersection over union of the class *changed*, each 0..1."""

    precision: float
    recall: float
    f1: float
    iou: float


def scores(tp: int, fp: int, fn: int) -> Scores:
    """Turn counts into scores; a score without a denominator is 0."""
    precision = tp / (tp + fp) if tp + fp else 0.0
    recall = tp / (tp + fn) if tp + fn else 0.0
    f1 = 2 * tp / (2 * tp + fp + fn) if tp else 0.0
    return Scores(precision, recall, f1, tp / (tp + fp + fn) if tp else 0.0)


@dataclass(frozen=True)
class Confusion:
    """Pixels by ground truth and prediction."""

    tp: int
    """Changed, predicted as changed."""
    fp: int
    """Unchanged, predicted as changed."""
    fn: int
    """Changed, predicted as unchanged."""
    tn: int
    """Unchanged, predicted as unchanged."""

    @property
    def scores(self) -> Scores:
        """Scores of the class *changed*."""
        return scores(self.tp, self.fp, self.fn)

    @property
    def accuracy(self) -> float:
        """Overall accuracy, 0..1: share of correctly classified pixels; 0 without pixels."""
        return (self.tp + self.tn) / max(self.tp + self.fp + self.fn + self.tn, 1)


@dataclass
class PixelCounts:
    """Numbers of changed and unchanged pixels in each bin of predicted probability."""

    p: DoubleArray
    """Probability of each bin, ascending."""
    changed: LongArray
    """Truly changed pixels per bin."""
    unchanged: LongArray
    """Truly unchanged pixels per bin."""

    @classmethod
    def of_values(cls) -> PixelCounts:
        """Bins for probability values 0..254."""
        return cls.of_bins(np.arange(P_SCALE + 1) / P_SCALE)

    @classmethod
    def of_bins(cls, p: DoubleArray) -> PixelCounts:
        """Empty bins with these probabilities."""
        return cls(p, np.zeros(len(p), np.int64), np.zeros(len(p), np.int64))

    def add(self, bins: NDArray[np.integer], truth: BoolArray) -> None:
        """Count pixels by bin index; both arrays have the same shape."""
        self.changed += np.bincount(bins[truth], minlength=len(self.p))
        self.unchanged += np.bincount(bins[~truth], minlength=len(self.p))

    def add_values(self, values: ByteArray, truth: BoolArray) -> None:
        """Count a map of probability values; 255 (not observable) is left out."""
        seen = values <= P_SCALE
        self.add(values[seen], truth[seen])

    @property
    def total(self) -> int:
        """Number of counted pixels."""
        return int(self.changed.sum() + self.unchanged.sum())

    def merge(self, other: PixelCounts) -> None:
        """Add counts with the same bins."""
        self.changed += other.changed
        self.unchanged += other.unchanged

    def confusion(self, threshold: float) -> Confusion:
        """Confusion matrix where p >= threshold (0..1) is predicted as changed."""
        cut = int(np.searchsorted(self.p, threshold - 1e-9))
        tp, fp = int(self.changed[cut:].sum()), int(self.unchanged[cut:].sum())
        return Confusion(tp, fp, int(self.changed[:cut].sum()), int(self.unchanged[:cut].sum()))

    def at(self, threshold: float) -> Scores:
        """Scores where p >= threshold (0..1) is predicted as changed."""
        return self.confusion(threshold).scores

    def curve(self) -> tuple[DoubleArray, DoubleArray]:
        """Precision and recall (n,) with each bin's p as threshold; precision is 1 where nothing is predicted."""
        tp = np.cumsum(self.changed[::-1])[::-1]
        called = tp + np.cumsum(self.unchanged[::-1])[::-1]
        precision = np.where(called > 0, tp / np.maximum(called, 1), 1.0)
        return precision, np.asarray(tp / max(int(self.changed.sum()), 1))

    def average_precision(self) -> float | None:
        """Area under precision over recall, as a sum of steps (as scikit-learn), 0..1; None if nothing changed."""
        if not self.changed.any():
            return None
        precision, recall = self.curve()
        return float(-np.sum(np.diff(np.append(recall, 0.0)) * precision))

    def reliability(self, bins: int = 15) -> tuple[DoubleArray, DoubleArray, LongArray]:
        """Mean p, share changed, and pixels (bins,) in equally wide bins of p; NaN for bins without pixels."""
        total = self.changed + self.unchanged
        group = np.minimum((self.p * bins).astype(int), bins - 1)
        pixels = np.bincount(group, total, bins)
        with np.errstate(invalid="ignore"):
            said = np.bincount(group, total * self.p, bins) / pixels
            found = np.bincount(group, self.changed, bins) / pixels
        return said, found, pixels.astype(np.int64)

    def best_threshold(self) -> float:
        """The bin probability with the highest F1 when used as threshold (0..1)."""
        tp = np.cumsum(self.changed[::-1])[::-1]
        fp = np.cumsum(self.unchanged[::-1])[::-1]
        f1 = 2 * tp / np.maximum(tp + fp + self.changed.sum(), 1)
        return float(self.p[1 + int(np.argmax(f1[1:]))])

    def calibration_error(self, bins: int = 15) -> float:
        """Expected calibration error over equally wide bins of p (Naeini et al. 2015), 0..1."""
        said, found, pixels = self.reliability(bins)
        return float(np.nansum(np.abs(found - said) * pixels) / max(int(pixels.sum()), 1))


def logit_bins(logits: FloatArray) -> NDArray[np.integer]:
    """Bin index of each logit."""
    half = round(LOGIT_LIMIT / LOGIT_STEP)
    return np.asarray(
        np.rint(np.clip(np.nan_to_num(logits), -LOGIT_LIMIT, LOGIT_LIMIT) / LOGIT_STEP).astype(np.int64) + half
    )


def logit_centres() -> DoubleArray:
    """Logit at the centre of each bin."""
    half = round(LOGIT_LIMIT / LOGIT_STEP)
    return np.asarray(np.arange(-half, half + 1) * LOGIT_STEP, dtype=np.float64)


def calibrated(counts: PixelCounts, temperature: float) -> PixelCounts:
    """The same counts of logits, with p = sigmoid(logit / temperature)."""
    p = 1 / (1 + np.exp(-logit_centres() / temperature))
    return PixelCounts(p, counts.changed, counts.unchanged)


def fit_temperature(counts: PixelCounts) -> float:
    """Temperature with the lowest negative log-likelihood (Guo et al. 2017), searched in 0.3..5."""
    grid = np.exp(np.linspace(np.log(0.3), np.log(5), 121))
    z = logit_centres()[:, None] / grid
    nll = counts.changed @ np.logaddexp(0, -z) + counts.unchanged @ np.logaddexp(0, z)
    return round(float(grid[int(np.argmin(nll))]), 4)


LEAST_IOU = 0.5
"""Objects match if their intersection over union is at least this."""


@dataclass(frozen=True)
class ObjectCounts:
    """Numbers of labelled, predicted and matched objects."""

    there: int = 0
    """Objects in the label."""
    found: int = 0
    """Objects in the prediction."""
    matched: int = 0
    """Matched pairs of these, each object used once."""

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        return ObjectCounts(self.there + other.there, self.found + other.found, self.matched + other.matched)

    @property
    def scores(self) -> Scores:
        """Precision, recall, F1 and IoU over objects."""
        return scores(self.matched, self.found - self.matched, self.there - self.matched)


def match_objects(there: BoolArray, found: BoolArray, least_px: int = 1) -> ObjectCounts:
    """Match the components of two masks (rows, columns) greedily, largest intersection over union first.

    Args:
        there: Changed pixels of the label.
        found: Changed pixels of the prediction.
        least_px: Components with fewer pixels are ignored, in both masks.
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


def mean_presence(found: BoolArray, presence: ByteArray, least_px: int = 1) -> DoubleArray:
    """Mean presence before and after, 0..1, of each component of a mask: (components, 2).

    Args:
        found: Changed pixels of the prediction, (rows, columns).
        presence: Probability values of presence before and after, (2, rows, columns).
        least_px: Components with fewer pixels are ignored.
    """
    labels, sizes = _components(found, least_px)
    sums = [np.bincount(labels.ravel(), values.ravel(), len(sizes)) for values in presence]
    return np.stack(sums, axis=1)[sizes > 0] / sizes[sizes > 0, None] / P_SCALE


def near_edges(changed: BoolArray, px: float) -> BoolArray:
    """Pixels of a mask (rows, columns) within ``px`` of a pixel with the other value, centre to centre."""
    near = np.zeros(changed.shape, np.bool_)
    if changed.any() and not changed.all():
        for side in (changed, ~changed):
            near |= side & (distance_transform_edt(side) <= px)
    return near


def _components(mask: BoolArray, least_px: int) -> tuple[IntArray, LongArray]:
    """Labels (0: background or ignored components), and the number of pixels per label."""
    labels, _ = label(mask, output=np.int32)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    sizes[sizes < least_px] = 0
    labels[sizes[labels] == 0] = 0
    return labels, sizes
