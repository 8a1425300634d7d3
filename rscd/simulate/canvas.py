"""The curved street frame, ground metres (x east, y south) <-> street coordinates (u, v); the canvas of a tile.

Blocks are squares in (u, v); a rotation and two slow waves map them to the ground::

    x' = x cos t + y sin t          u = x' + A sin(k1 y' + p1)
    y' = y cos t - x sin t          v = y' + A sin(k2 x' + p2)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rscd.core.types import BoolArray, DoubleArray, FloatArray, LongArray
from rscd.simulate.appearance import SCALES_PX, Texture, stream


@dataclass(frozen=True)
class Frame:
    """The map between ground and streets; smooth, one to one; its axes are bent by 12 degrees at most."""

    turn: float
    """Rotation of the street grid, radians."""
    bend_m: float
    """Amplitude A of both waves, m."""
    k1: float
    """Wave number along y', 1/m."""
    k2: float
    """Wave number along x', 1/m."""
    p1: float
    """Phase of the first wave, radians."""
    p2: float
    """Phase of the second wave, radians."""

    def to_streets(self, x: DoubleArray, y: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
        """Convert ground metres to (u, v), m; any broadcastable shapes."""
        c, s = np.cos(self.turn), np.sin(self.turn)
        xt, yt = x * c + y * s, y * c - x * s
        return xt + self.bend_m * np.sin(self.k1 * yt + self.p1), yt + self.bend_m * np.sin(self.k2 * xt + self.p2)

    def to_ground(self, u: DoubleArray, v: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
        """Convert (u, v) to ground metres by fixed-point iteration (contraction 0.21 or less per step)."""
        xt, yt = u, v
        for _ in range(8):
            xt, yt = (
                u - self.bend_m * np.sin(self.k1 * yt + self.p1),
                v - self.bend_m * np.sin(self.k2 * xt + self.p2),
            )
        c, s = np.cos(self.turn), np.sin(self.turn)
        return xt * c - yt * s, xt * s + yt * c

    def locate(self, u: float, v: float) -> tuple[float, float, float]:
        """Ground x and y (m) of a point, and the direction of increasing u there, radians from x towards y."""
        x, y = self.to_ground(np.array([u, u - 1.0, u + 1.0]), np.array([v, v, v]))
        return float(x[0]), float(y[0]), float(np.arctan2(y[2] - y[1], x[2] - x[1]))


def draw_frame(seed: int, layout: str, bend_m: float) -> Frame:
    """The frame of one scene."""
    rng = stream(seed, layout, "frame")
    k1, k2 = 2 * np.pi / rng.uniform(620.0, 1100.0, 2)
    p1, p2 = rng.uniform(0.0, 2 * np.pi, 2)
    return Frame(float(rng.uniform(-0.6, 0.6)), bend_m, float(k1), float(k2), float(p1), float(p2))


@dataclass(frozen=True, eq=False)
class Textures:
    """A scene's noise fields."""

    fine: Texture
    """Grass, leaves, gravel; finest."""
    middle: Texture
    """Tufts and stains, a few px."""
    large: Texture
    """Patches, tens of px."""
    grain: Texture
    """White noise of the sensor."""

    @classmethod
    def of(cls, seed: int) -> Textures:
        """The noise fields of a seed."""
        fine, middle, large = (
            Texture(seed, name, s) for name, s in zip(("fine", "middle", "large"), SCALES_PX, strict=True)
        )
        return cls(fine, middle, large, Texture(seed, "grain", 0.0))


class Canvas:
    """Location of one tile, and what is painted on it so far.

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
        """The pixels with centres in a box of ground metres, or None if there are none."""
        top, left = self.rows[0], self.cols[0]
        r0, r1 = int(np.floor(y0 / self.gsd_m)) - top, int(np.ceil(y1 / self.gsd_m)) - top + 1
        c0, c1 = int(np.floor(x0 / self.gsd_m)) - left, int(np.ceil(x1 / self.gsd_m)) - left + 1
        r0, r1, c0, c1 = max(r0, 0), min(r1, self.rows.size), max(c0, 0), min(c1, self.cols.size)
        return None if r0 >= r1 or c0 >= c1 else (slice(r0, r1), slice(c0, c1))
