"""How one date looks: season, sun, air and sensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from rscd.simulate.noise import Texture, stream
from rscd.types import ByteArray, DoubleArray, FloatArray, LongArray

Season = Literal["green", "dry", "winter", "autumn"]
SEASONS: tuple[Season, ...] = ("green", "dry", "winter", "autumn")


@dataclass(frozen=True, eq=False)
class Look:
    """One date's light and sensor."""

    season: Season
    """State of the plants."""
    sun: DoubleArray
    """Unit vector to the sun: east, south, up."""
    gain: DoubleArray
    """Factor on each band, shape (3,)."""
    haze: DoubleArray
    """Added path light of each band, 0..255 scale, shape (3,)."""
    gamma: float
    """Exponent of the tone curve."""
    contrast: float
    """Share of full contrast that is left, about the mean grey of 100."""
    shade: float
    """Brightness of ground in full shadow, share of lit ground."""
    saturation: float
    """Share of the colours' distance from grey that is left."""
    blur_px: float
    """Gaussian width of the optics, px."""
    noise: float
    """Standard deviation of sensor noise, 0..255 scale."""

    def shadow_step(self, length_m: float) -> tuple[float, float]:
        """East and south offset of the shadow of a point ``length_m`` above ground, m."""
        east, south, up = self.sun
        return float(-east / up * length_m), float(-south / up * length_m)


def draw_looks(seed: int, layout: str) -> tuple[Look, Look]:
    """Before and after; four times in five the seasons differ."""
    rng = stream(seed, layout, "look")
    first = int(rng.integers(4))
    second = first if rng.random() < 0.2 else (first + int(rng.integers(1, 4))) % 4
    return _draw_look(rng, SEASONS[first]), _draw_look(rng, SEASONS[second])


def _draw_look(rng: np.random.Generator, season: Season) -> Look:
    azimuth = np.radians(rng.uniform(100.0, 245.0))
    low, high = (26.0, 42.0) if season == "winter" else (38.0, 66.0)
    up = np.radians(rng.uniform(low, high))
    sun = np.array([np.sin(azimuth) * np.cos(up), -np.cos(azimuth) * np.cos(up), np.sin(up)])
    level = rng.uniform(0.64, 1.15)
    return Look(
        season=season,
        sun=sun,
        gain=level * (1.0 + rng.normal(0.0, 0.03, 3)),
        haze=rng.uniform(0.0, 22.0) * np.array([0.8, 1.0, 1.15]),
        gamma=float(rng.uniform(0.85, 1.3)),
        contrast=float(rng.uniform(0.85, 1.25)),
        shade=float(rng.uniform(0.26, 0.46)),
        saturation=float(rng.uniform(0.55, 0.9)),
        blur_px=float(rng.uniform(0.45, 0.85)),
        noise=float(rng.uniform(1.0, 4.0)),
    )


def expose(rgb: FloatArray, look: Look, grain: Texture, rows: LongArray, cols: LongArray) -> ByteArray:
    """Scene brightness to what the sensor delivers.

    Args:
        rgb: Brightness on a 0..255 scale, float32, shape (3, h, w).
        look: The date.
        grain: White noise; each band reads it at another place.
        rows: Absolute pixel rows, shape (h,).
        cols: Absolute pixel columns, shape (w,).

    Returns:
        uint8, shape (3, h, w), at least 1 (0 is left for nodata).
    """
    out = np.empty(rgb.shape, dtype=np.uint8)
    grey = rgb.mean(axis=0) * np.float32(1.0 - look.saturation)
    for band in range(3):
        lit = np.clip(
            (rgb[band] * np.float32(look.saturation) + grey) * np.float32(look.gain[band] / 255.0), 0.0, 1.5
        ) ** np.float32(look.gamma)
        lift = 100.0 * (1.0 - look.contrast) + look.haze[band]
        lit = np.float32(255.0 * look.contrast) * lit + np.float32(lift)
        lit = ndimage.gaussian_filter(lit, look.blur_px, mode="nearest", truncate=3.0)
        lit += np.float32(look.noise) * grain.cut(rows + 97 * band, cols + 41 * band)
        out[band] = np.clip(np.rint(lit), 1.0, 255.0)
    return out
