"""The bent street frame: ground metres (x east, y south) <-> street coordinates (u, v).

Blocks are unit squares of (u, v); a turn and two slow waves bend them on the ground::

    x' = x cos t + y sin t          u = x' + A sin(k1 y' + p1)
    y' = y cos t - x sin t          v = y' + A sin(k2 x' + p2)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rscd.simulate.noise import stream
from rscd.types import DoubleArray


@dataclass(frozen=True)
class Frame:
    """The map between ground and streets; smooth, one to one, its axes bent by 12 degrees at most."""

    turn: float
    """Turn of the street grid, radians."""
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
        """Ground metres to (u, v), m; any broadcastable shapes."""
        c, s = np.cos(self.turn), np.sin(self.turn)
        xt, yt = x * c + y * s, y * c - x * s
        return xt + self.bend_m * np.sin(self.k1 * yt + self.p1), yt + self.bend_m * np.sin(self.k2 * xt + self.p2)

    def to_ground(self, u: DoubleArray, v: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
        """(u, v) to ground metres, by fixed-point steps (the waves contract by 0.21 or less a step)."""
        xt, yt = u, v
        for _ in range(8):
            xt, yt = (
                u - self.bend_m * np.sin(self.k1 * yt + self.p1),
                v - self.bend_m * np.sin(self.k2 * xt + self.p2),
            )
        c, s = np.cos(self.turn), np.sin(self.turn)
        return xt * c - yt * s, xt * s + yt * c

    def locate(self, u: float, v: float) -> tuple[float, float, float]:
        """Ground x and y (m) of a point, and the direction of growing u there, radians from x towards y."""
        x, y = self.to_ground(np.array([u, u - 1.0, u + 1.0]), np.array([v, v, v]))
        return float(x[0]), float(y[0]), float(np.arctan2(y[2] - y[1], x[2] - x[1]))


def draw_frame(seed: int, layout: str, bend_m: float) -> Frame:
    """The frame of one scene."""
    rng = stream(seed, layout, "frame")
    k1, k2 = 2 * np.pi / rng.uniform(620.0, 1100.0, 2)
    p1, p2 = rng.uniform(0.0, 2 * np.pi, 2)
    return Frame(float(rng.uniform(-0.6, 0.6)), bend_m, float(k1), float(k2), float(p1), float(p2))
