"""Blending: overlapping windows of probabilities become complete cells of pixels.

Windows come in reading order, and a window completes its cell: the rows of its band, and the columns up to the next
window's first. What it has added to the right of that waits for the next window, and what it has added below waits
in the tail. So the accumulator is a window and the tail, never the scene, nor a band of it.
"""

from __future__ import annotations

import numpy as np

from rscd.scene.windows import WindowPlan
from rscd.types import NOT_OBSERVABLE, P_SCALE, BoolArray, ByteArray, FloatArray


class Blender:
    """Weighted sum of windows, in reading order.

    Args:
        plan: The windows.
        tail: What an earlier blender had left when it finished the row of windows before the one that comes first.
        maps: How many maps a window has, along an axis before its rows; None: one, and no such axis.
    """

    def __init__(self, plan: WindowPlan, tail: FloatArray | None = None, *, maps: int | None = None) -> None:
        self._plan, self._maps = plan, () if maps is None else (maps,)
        self.tail: FloatArray = np.zeros((*self._maps, plan.rows.overlap, plan.cols.size), np.float32)
        """What finished rows of windows leave to the next: sums (..., overlap, columns)."""
        if tail is not None:
            self.tail[:] = tail
        self._carry: FloatArray = np.zeros((*self._maps, 0, 0), np.float32)

    def add(self, k: int, j: int, probability: FloatArray | None) -> FloatArray:
        """Add window (row k, column j); returns its cell, which is complete: probabilities (..., h, w).

        Args:
            k: Row of windows.
            j: Window of the row; 0 first, and none left out.
            probability: Shape (..., window, window), in 0..1; None where the window shows nothing.
        """
        rows, cols = self._plan.rows, self._plan.cols
        (top, bottom), (left, right) = rows.support(k), cols.support(j)
        (_, band_stop), (start, stop) = rows.band(k), cols.band(j)
        height, width = bottom - top, right - left
        sums = np.zeros((*self._maps, height, width), np.float32)
        carried = 0
        if j > 0:
            carried = self._carry.shape[-1]
            sums[..., :carried] = self._carry
        tail = self.tail[..., :height, :]
        sums[..., : tail.shape[-2], carried:] = tail[..., left + carried : right]
        if probability is not None:
            down, across = top - rows.start(k), left - cols.start(j)
            part = probability[..., down : down + height, across : across + width]
            sums += part * (rows.weights[k][:, None] * cols.weights[j][None, :])
        below = sums[..., band_stop - top :, : stop - start]
        self.tail[..., : below.shape[-2], start:stop] = below
        self.tail[..., below.shape[-2] :, start:stop] = 0
        self._carry = sums[..., stop - start :].copy()
        return sums[..., : band_stop - top, : stop - start]


def to_values(probability: FloatArray, valid: BoolArray) -> ByteArray:
    """Quantise probabilities (..., h, w) of 0..1 to values 0..254; 255 where not valid (h, w)."""
    scaled = np.clip(probability, 0, 1)
    scaled *= P_SCALE
    values = np.rint(scaled, out=scaled).astype(np.uint8)
    values[..., ~valid] = NOT_OBSERVABLE
    return values
