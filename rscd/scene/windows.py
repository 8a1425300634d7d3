"""Windows over a grid, and their blending weights: a partition of unity, computed per axis.

Along an axis of n px, windows of w px start every ``stride = w - overlap`` px; the last one is shifted inside::

    nominal   |------k-2------|
                         |------k-1------|
                                    |------k------:....|     would reach beyond the end
    actual                       |------k---------|          shifted: more context on its left
    weight                         /~~~~~~~~~~~~~~            but it counts from its nominal start on

A window *counts* only from its nominal start. So rows [k*stride, (k+1)*stride) are complete once window row k is
blended, wherever the last row was shifted; and the shifted window is used far from its own border.

Nominal starts are multiples of the stride from the origin of the CRS, not from the file's corner: so a part of a
scene, cut out or defined by an area of interest, has the same windows as the whole scene. The first window's
nominal start may then be before the scene, by ``phase`` px, and it is also shifted inside.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rscd.core.grid import pixel
from rscd.core.types import FloatArray, Grid, Window

TIE = 0.37
"""Offset for rounding fractional pixel positions of grids: a rare fraction, so ties do not occur in practice."""


@dataclass(frozen=True)
class Axis:
    """Windows along one axis."""

    size: int
    """Length of the axis in px."""
    window: int
    """Length of a window in px."""
    overlap: int
    """Overlap of neighbouring windows in px, below ``window``."""
    phase: int = 0
    """Distance of the first window's nominal start before the axis, px, below the stride."""
    room: tuple[int, int] = (0, 0)
    """Pixels of the scene before and after the axis: windows may be read from there."""

    @property
    def stride(self) -> int:
        """Distance between nominal starts, px."""
        return self.window - self.overlap

    @cached_property
    def count(self) -> int:
        """Number of windows: ceil((n + phase - w) / stride) + 1."""
        return max(0, -(-(self.size + self.phase - self.window) // self.stride)) + 1

    @property
    def reach(self) -> int:
        """Number of windows before window k that count in strip k: 1 unless windows overlap by more than half."""
        return -(-self.window // self.stride) - 1

    def completing(self, strips: Iterable[int]) -> frozenset[int]:
        """The windows that these strips need: their own, and earlier ones that reach into them."""
        return frozenset(k for strip in strips for k in range(max(0, strip - self.reach), strip + 1))

    def start(self, k: int) -> int:
        """Start of window k as read, px. It extends beyond the scene only if the scene is shorter than a window."""
        return max(-self.room[0], min(self._nominal(k), self.size + self.room[1] - self.window))

    @property
    def length(self) -> int:
        """Length of a window inside the scene, px."""
        return min(self.window, self.room[0] + self.size + self.room[1])

    def strip(self, k: int) -> tuple[int, int]:
        """The pixels that are complete after window k: start and stop."""
        last = k == self.count - 1
        return max(0, self._nominal(k)), self.size if last else self._nominal(k + 1)

    def support(self, k: int) -> tuple[int, int]:
        """The pixels where window k counts: start and stop in px, inside the axis."""
        return max(0, self._nominal(k)), min(self._nominal(k) + self.window, self.size)

    @cached_property
    def weights(self) -> tuple[FloatArray, ...]:
        """Weights of each window over its support; at every pixel of the axis they sum to 1."""
        total = np.zeros(self.size)
        raw = [self._ramp(k) for k in range(self.count)]
        for k, ramp in enumerate(raw):
            total[slice(*self.support(k))] += ramp
        return tuple((ramp / total[slice(*self.support(k))]).astype(np.float32) for k, ramp in enumerate(raw))

    def _nominal(self, k: int) -> int:
        return k * self.stride - self.phase

    def _ramp(self, k: int) -> np.ndarray:
        """Ramp up over the overlap with the previous window, and down over that with the next."""
        start, stop = self.support(k)
        at = np.arange(start, stop) - self._nominal(k) + 0.5
        ramp = np.ones(stop - start)
        if k > 0 and self.overlap:
            ramp = np.minimum(ramp, at / self.overlap)
        if k < self.count - 1 and self.overlap:
            ramp = np.minimum(ramp, (self.window - at) / self.overlap)
        return ramp


@dataclass(frozen=True)
class WindowPlan:
    """All windows of a scene: one axis of rows, one of columns."""

    rows: Axis
    """Window rows; each completes one strip of output rows."""
    cols: Axis
    """Window columns."""

    @classmethod
    def over(cls, height: int, width: int, window: int, overlap: int) -> WindowPlan:
        """Plan square windows over an image without georeference, all in px: they start at its corner."""
        return cls(Axis(height, window, overlap), Axis(width, window, overlap))

    @classmethod
    def on(cls, scene: Grid, crop: Window, window: int, overlap: int) -> WindowPlan:
        """Plan square windows over a part of a scene: the windows that the whole scene has there.

        Pixels closer than ``overlap`` to the part's border, where the scene continues, lack the window that would
        begin or end there.

        Args:
            scene: The grid of the scene.
            crop: The part, px of the scene.
            window: Side of a window, px.
            overlap: Overlap of neighbours, px.
        """
        col, row = pixel(scene.transform, 0.0, 0.0)
        rows = _along(scene.height, crop.row, crop.height, -float(row), window, overlap)
        return cls(rows, _along(scene.width, crop.col, crop.width, -float(col), window, overlap))

    def place(self, k: int, j: int) -> Window:
        """Window j of row k as read; cropped if the scene is smaller than a window."""
        top, left = self.rows.start(k), self.cols.start(j)
        return Window(top, left, self.rows.length, self.cols.length)

    def cell(self, k: int, j: int) -> Window:
        """The pixels that are complete once window j of row k is blended: a part of the window."""
        (top, bottom), (left, right) = self.rows.strip(k), self.cols.strip(j)
        return Window(top, left, bottom - top, right - left)

    @property
    def count(self) -> int:
        """Number of windows, including those without a valid pixel."""
        return self.rows.count * self.cols.count


def _along(scene: int, start: int, size: int, origin: float, window: int, overlap: int) -> Axis:
    """The axis of pixels [start, start + size) of a scene; ``origin``: its first pixel, counted from the CRS's."""
    phase = start + (int(np.floor(origin + TIE)) if scene > window else 0)
    return Axis(size, window, overlap, phase % (window - overlap), (start, scene - start - size))
