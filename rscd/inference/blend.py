"""Blending: overlapping windows of probabilities become complete bands of rows.

The accumulator holds the rows of one row of windows, never the scene. A finished band leaves it; the overlap tail
below stays for the next.
"""

from __future__ import annotations

import numpy as np

from rscd.scene.windows import WindowPlan
from rscd.types import NOT_OBSERVABLE, P_SCALE, BoolArray, ByteArray, FloatArray


class BandBlender:
    """Weighted sum of windows, a row of windows at a time, from the top.

    Args:
        plan: The windows.
        tail: What an earlier blender had left when it finished the band before the one that comes first here.
    """

    def __init__(self, plan: WindowPlan, tail: FloatArray | None = None) -> None:
        self._plan = plan
        self._sum: FloatArray = np.zeros((plan.rows.window, plan.cols.size), np.float32)
        if tail is not None:
            self._sum[: len(tail)] = tail

    @property
    def tail(self) -> FloatArray:
        """What finished bands leave to the next: sums (overlap, columns)."""
        return self._sum[: self._plan.rows.overlap]

    def add(self, k: int, j: int, probability: FloatArray) -> None:
        """Add window (row k, column j): probabilities (window, window) in 0..1."""
        rows, cols = self._plan.rows, self._plan.cols
        (top, bottom), (left, right) = rows.support(k), cols.support(j)
        shift_rows, shift_cols = top - rows.start(k), left - cols.start(j)
        part = probability[shift_rows : shift_rows + bottom - top, shift_cols : shift_cols + right - left]
        weight = rows.weights[k][:, None] * cols.weights[j][None, :]
        self._sum[: bottom - top, left:right] += part * weight

    def finish(self, k: int) -> FloatArray:
        """Take band k's rows (rows, columns) out; what lies below moves up."""
        start, stop = self._plan.rows.band(k)
        done, kept = self._sum[: stop - start], len(self._sum) - (stop - start)
        below, self._sum = self._sum[stop - start :], np.zeros_like(self._sum)
        self._sum[:kept] = below
        return done


def to_values(probability: FloatArray, valid: BoolArray) -> ByteArray:
    """Quantise probabilities 0..1 to values 0..254; 255 where not valid."""
    scaled = np.clip(probability, 0, 1)
    scaled *= P_SCALE
    values = np.rint(scaled, out=scaled).astype(np.uint8)
    values[~valid] = NOT_OBSERVABLE
    return values
