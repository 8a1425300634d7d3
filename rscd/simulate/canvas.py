"""A tile with its margin: pixel coordinates, noise, and the two dates' pictures while they are painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rscd.simulate.noise import SCALES_PX, Texture
from rscd.types import BoolArray, DoubleArray, FloatArray, LongArray


@dataclass(frozen=True, eq=False)
class Textures:
    """A scene's noise fields."""

    fine: Texture
    """Grass, leaves, gravel."""
    middle: Texture
    """Tufts and stains, some px."""
    large: Texture
    """Patches, tens of px."""
    grain: Texture
    """White noise of the sensors."""

    @classmethod
    def of(cls, seed: int) -> Textures:
        """The noise fields of a seed."""
        fine, middle, large = (
            Texture(seed, name, s) for name, s in zip(("fine", "middle", "large"), SCALES_PX, strict=True)
        )
        return cls(fine, middle, large, Texture(seed, "grain", 0.0))


class Canvas:
    """Where one tile is, and what has been painted on it.

    Args:
        rows: Absolute pixel rows with margin, shape (h,).
        cols: Absolute pixel columns with margin, shape (w,).
        gsd_m: Ground sample distance, m.
        textures: The scene's noise.
    """

    def __init__(self, rows: LongArray, cols: LongArray, gsd_m: float, textures: Textures) -> None:
        self.rows, self.cols, self.gsd_m = rows, cols, gsd_m
        shape = (rows.size, cols.size)
        self.fine, self.middle, self.large = (
            texture.cut(rows, cols) for texture in (textures.fine, textures.middle, textures.large)
        )
        self.x: DoubleArray = (cols.astype(np.float64) + 0.5) * gsd_m
        self.y: DoubleArray = (rows.astype(np.float64) + 0.5) * gsd_m
        self.surface = [np.zeros(shape, dtype=np.int32) for _ in range(2)]
        self.shadow = [np.zeros(shape, dtype=bool) for _ in range(2)]
        self.picture: list[FloatArray] = []
        self.label: BoolArray = np.zeros(shape, dtype=bool)
        self.built = [np.zeros(shape, dtype=bool) for _ in range(2)]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns with margin."""
        return self.rows.size, self.cols.size

    def box(self, x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice] | None:
        """The pixels whose centres lie in a box of ground metres, or None where there are none."""
        top, left = self.rows[0], self.cols[0]
        r0, r1 = int(np.floor(y0 / self.gsd_m)) - top, int(np.ceil(y1 / self.gsd_m)) - top + 1
        c0, c1 = int(np.floor(x0 / self.gsd_m)) - left, int(np.ceil(x1 / self.gsd_m)) - left + 1
        r0, r1, c0, c1 = max(r0, 0), min(r1, self.rows.size), max(c0, 0), min(c1, self.cols.size)
        return None if r0 >= r1 or c0 >= c1 else (slice(r0, r1), slice(c0, c1))
