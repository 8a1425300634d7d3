"""The shift between the dates: phase correlation on sampled patches, and their consensus.

A patch's shift is found with ``skimage.registration.phase_cross_correlation`` (Guizar-Sicairos 2008) on the
gradients of brightness, within SEARCH_PX. Changed or featureless patches give arbitrary results; so the pair's
shift is the median of the patches that agree with it, and is only trusted if enough of them agree.

Terrain and roofs seen from two directions shift each patch differently. A single shift for all then improves some
parts and worsens others, and displaces new objects from their place in their own image. So it is corrected only if
the patches differ little, or if it is longer than a network tolerates.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.registration import phase_cross_correlation
from threadpoolctl import threadpool_limits

from rscd.core.types import BoolArray, DoubleArray, FloatArray, ImageArray
from rscd.scene.raster import fill_invalid
from rscd.scene.sample import SampleBlock

if TYPE_CHECKING:
    from scipy.spatial import KDTree

EdgeArray = NDArray[np.complex64]
"""Gradients (h, w): rows real, columns imaginary."""

PATCH = 256
"""Side of a patch, px; half the side of a smaller block."""
LEAST_PATCH = 96
"""Minimum side of a patch, px: smaller ones are not measured."""
SEARCH_PX = 24.0
"""Search radius, px: larger patch shifts are rejected."""
MOST_PATCHES = 400
"""Maximum number of measured patches."""
UPSAMPLE = 50
"""Resolution of measured shifts: 1 / UPSAMPLE px."""
AGREE_PX = 0.75
"""A patch agrees if it is within this distance of the median, px, in rows and in columns."""
LEAST_AGREEING = 3
"""Minimum number of patches that must agree."""
LEAST_CONFIDENCE = 0.4
"""Minimum share of the patches that must agree."""
MOST_SPREAD_PX = 0.3
"""Maximum spread of the agreeing patches for which any shift is corrected, px. For Sentinel-2 and Landsat pairs
the spread is at most 0.25, for LEVIR-CD's validation scenes 0.47 to 0.58."""
LONG_SHIFT_PX = 4.0
"""Length from which a shift is corrected although the patches differ more, px. Those validation scenes are 1.3 to
3.7 px apart, and correcting that lost 0.03 of F1; with 3 to 6 px added, it gained 0.03 to 0.08."""
SMOOTH_PX = 1.0
"""Standard deviation of the Gaussian before gradients are taken, px."""
_THIN = np.s_[::2, ::2]
"""Pixels from which percentiles are computed."""


@dataclass(frozen=True)
class PatchShift:
    """The shift of one patch."""

    row: float
    """Row of the patch's centre in the common grid, px."""
    col: float
    """Column of the patch's centre, px."""
    rows: float
    """Displacement of the after image downwards, px."""
    cols: float
    """Displacement of the after image to the right, px."""


@dataclass(frozen=True)
class ShiftMap:
    """Consensus of the patches. Values are NaN if nothing could be measured."""

    rows: float
    """Median of the agreeing patches: displacement of the after image downwards, px of the common grid."""
    cols: float
    """The same to the right."""
    spread_px: float
    """Robust standard deviation of the agreeing patches, px: 1.2011 times their median distance from the shift."""
    confidence: float
    """Share of the patches that agree within AGREE_PX, 0..1."""
    patches: tuple[PatchShift, ...]
    """All patches that were measured."""

    @property
    def length_px(self) -> float:
        """Length of the shift, px."""
        return float(np.hypot(self.rows, self.cols))

    @property
    def agreeing(self) -> int:
        """Number of patches that agree."""
        return round(self.confidence * len(self.patches))

    @property
    def consistent(self) -> bool:
        """Whether enough patches agree to trust the shift."""
        return self.agreeing >= LEAST_AGREEING and self.confidence >= LEAST_CONFIDENCE

    @property
    def correctable(self) -> bool:
        """Whether correcting one shift for all patches improves the pair."""
        return self.consistent and (self.spread_px <= MOST_SPREAD_PX or self.length_px >= LONG_SHIFT_PX)

    def residuals_px(self, rows: DoubleArray, cols: DoubleArray) -> DoubleArray:
        """Length of the shift of the agreeing patch nearest to places (n,) of the grid, px; NaN without any."""
        if self._near is None:
            return np.full(len(rows), np.nan)
        tree, lengths = self._near
        return np.asarray(lengths[tree.query(np.column_stack([rows, cols]))[1]])

    @cached_property
    def _near(self) -> tuple[KDTree, DoubleArray] | None:
        """The agreeing patches' places, and the lengths of their shifts, px."""
        from scipy.spatial import KDTree  # a fifth of a second at the start, with scipy.sparse

        near = [p for p in self.patches if _agrees(p, self.rows, self.cols)]
        if not near:
            return None
        return KDTree([(p.row, p.col) for p in near]), np.array([np.hypot(p.rows, p.cols) for p in near])


def measure_shift(blocks: Iterable[SampleBlock], *, dense: bool = True) -> ShiftMap:
    """Measure the shift of the after image on the patches of a sample.

    Args:
        blocks: The sample.
        dense: Whether patches overlap by half: useful if there are few blocks.
    """
    patches: list[PatchShift] = []
    shifts = partial(block_shifts, dense=dense)
    # Nothing else runs yet, and the transforms release the GIL; with BLAS's own threads in ours it was four times
    # slower.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as threads:
        for found_in_block in threads.map(shifts, blocks):
            if len(patches) < MOST_PATCHES:
                patches += found_in_block
    if not patches:
        return ShiftMap(float("nan"), float("nan"), float("nan"), 0.0, ())
    found = np.array([(p.rows, p.cols) for p in patches])
    middle = _densest(found)
    for _ in range(10):
        kept = found[(np.abs(found - middle) <= AGREE_PX).all(axis=1)]
        middle = np.median(kept, axis=0) if len(kept) else middle
    spread = float(1.2011 * np.median(np.hypot(*(kept - middle).T))) if len(kept) else float("nan")
    return ShiftMap(float(middle[0]), float(middle[1]), spread, len(kept) / len(found), tuple(patches))


def _densest(found: DoubleArray) -> DoubleArray:
    """The patch shift that most others agree with: a start that even many outliers do not affect."""
    agree = (np.abs(found[:, None] - found[None]) <= AGREE_PX).all(axis=2).sum(axis=1)
    return np.asarray(found[int(agree.argmax())])


def _agrees(patch: PatchShift, rows: float, cols: float) -> bool:
    return abs(patch.rows - rows) <= AGREE_PX and abs(patch.cols - cols) <= AGREE_PX


def block_shifts(block: SampleBlock, *, dense: bool = True) -> list[PatchShift]:
    """Shifts of the patches inside a block of which both dates show at least nine tenths."""
    valid = block.before_valid & block.after_valid
    height, width = valid.shape
    side = min(PATCH, max(min(height, width) // 2, LEAST_PATCH))
    if side > min(height, width) or valid.mean() < 0.1:
        return []
    before = edges(block.before, block.before_valid)
    after = edges(block.after, block.after_valid)
    patches = []
    for top in _starts(height, side, dense=dense):
        for left in _starts(width, side, dense=dense):
            part = np.s_[top : top + side, left : left + side]
            if valid[part].mean() < 0.9:
                continue
            shift = patch_shift(before[part], after[part])
            if shift is not None:
                row, col = block.window.row + top + side / 2, block.window.col + left + side / 2
                patches.append(PatchShift(row, col, *shift))
    return patches


def _starts(size: int, side: int, *, dense: bool) -> list[int]:
    """Starts of patches, evenly spread; dense ones overlap by half."""
    fit = size // side
    return [int(x) for x in np.linspace(0, size - side, 2 * fit - 1 if dense else fit)]


def edges(pixels: ImageArray, valid: BoolArray) -> EdgeArray:
    """Gradient of brightness (h, w): rows real, columns imaginary; steep ones clipped, 0 where not valid.

    Gradients remove slow differences of brightness; clipping keeps a single bright roof, or a saturated pixel, from
    dominating.
    """
    grey = fill_invalid(pixels, valid).mean(axis=0, dtype=np.float32)
    low, high = map(float, np.percentile(grey[_THIN], [1, 99]))  # numpy scalars would convert everything to float64
    smooth = gaussian_filter(np.clip(grey, low, high), SMOOTH_PX)
    down, across = np.gradient(smooth)
    steep = np.hypot(down, across)
    most = float(np.percentile(steep[_THIN], 95))
    if most > 0:  # otherwise there are no edges
        factor = most / np.maximum(steep, most, out=steep)
        factor *= valid
    else:
        factor = np.zeros_like(steep)
    found = np.empty(grey.shape, np.complex64)
    np.multiply(down, factor, out=found.real)
    np.multiply(across, factor, out=found.imag)
    return found


@cache
def _hann(height: int, width: int) -> FloatArray:
    return np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)


def patch_shift(before: EdgeArray, after: EdgeArray) -> tuple[float, float] | None:
    """Rows and columns by which ``after`` is displaced from ``before``, both edges (n, m); None if none is found.

    The patch is multiplied by a Hann window, so that its border does not correlate with itself.
    """
    window = _hann(*before.shape)
    if not before.any() or not after.any() or not np.isfinite(before.sum() + after.sum()):
        return None  # no edges, or values so large that their edges overflow
    found, _, _ = phase_cross_correlation(  # type: ignore[no-untyped-call]
        before * window, after * window, upsample_factor=UPSAMPLE, normalization=None
    )
    rows, cols = -float(found[0]), -float(found[1])
    return (rows, cols) if np.hypot(rows, cols) <= SEARCH_PX else None
