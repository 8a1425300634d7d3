"""Appearance of surfaces: noise, colours, illumination, materials."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from rscd.core.types import ByteArray, DoubleArray, FloatArray, LongArray

PERIODS = (509, 631)
"""Sides of the two noise tiles that are summed, px; coprime, so the sum repeats after 321 thousand px."""
SCALES_PX = (0.6, 3.0, 14.0)
"""Gaussian sigma of the fine, middle and large texture, px."""


def stream(*keys: int | str) -> np.random.Generator:
    """A random generator seeded only by its keys (negative numbers are allowed)."""
    words = [zlib.crc32(key.encode()) if isinstance(key, str) else key & 0xFFFFFFFF for key in keys]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


class Texture:
    """Value noise over the whole plane, read at any place by modular indexing.

    Args:
        seed: The scene's seed.
        name: Name of the texture; textures with different names are independent.
        sigma_px: Correlation length, px; 0 is white noise.
    """

    def __init__(self, seed: int, name: str, sigma_px: float) -> None:
        self._tiles = [_periodic_tile(stream(seed, name, n), n, sigma_px) for n in PERIODS]

    def cut(self, rows: LongArray, cols: LongArray) -> FloatArray:
        """Noise with mean 0 and variance 1 at absolute pixels.

        Args:
            rows: Pixel rows, int64, shape (h,).
            cols: Pixel columns, int64, shape (w,).

        Returns:
            float32, shape (h, w).
        """
        first, second = (tile[np.ix_(rows % n, cols % n)] for tile, n in zip(self._tiles, PERIODS, strict=True))
        return np.asarray(first + second, dtype=np.float32)


def _periodic_tile(rng: np.random.Generator, side: int, sigma_px: float) -> FloatArray:
    """A square of smoothed noise that tiles seamlessly, variance 1/2, shape (side, side)."""
    tile = rng.standard_normal((side, side), dtype=np.float32)
    if sigma_px > 0:
        tile = ndimage.gaussian_filter(tile, sigma_px, mode="wrap")
    tile -= tile.mean()
    return np.asarray(tile * (np.sqrt(0.5) / tile.std()), dtype=np.float32)


Season = Literal["green", "dry", "winter", "autumn"]
SEASONS: tuple[Season, ...] = ("green", "dry", "winter", "autumn")


@dataclass(frozen=True, eq=False)
class Look:
    """Illumination and sensor of one date."""

    season: Season
    """Season of the vegetation."""
    sun: DoubleArray
    """Unit vector towards the sun: east, south, up."""
    gain: DoubleArray
    """Gain of each band, shape (3,)."""
    haze: DoubleArray
    """Path radiance added to each band, 0..255 scale, shape (3,)."""
    gamma: float
    """Exponent of the tone curve."""
    contrast: float
    """Contrast as a share of full contrast, around the mean grey of 100."""
    shade: float
    """Brightness of ground in full shadow, as a share of lit ground."""
    saturation: float
    """Saturation as a share of the original."""
    blur_px: float
    """Gaussian sigma of the optics, px."""
    noise: float
    """Standard deviation of sensor noise, 0..255 scale."""

    def shadow_step(self, length_m: float) -> tuple[float, float]:
        """East and south offset of the shadow of a point ``length_m`` above ground, m."""
        east, south, up = self.sun
        return float(-east / up * length_m), float(-south / up * length_m)


def draw_looks(seed: int, layout: str) -> tuple[Look, Look]:
    """Looks of both dates; in four of five scenes the seasons differ."""
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
    """Convert scene brightness to the pixels of the sensor.

    Args:
        rgb: Brightness on a 0..255 scale, float32, shape (3, h, w).
        look: Look of the date.
        grain: White noise; each band reads it at a different place.
        rows: Absolute pixel rows, shape (h,).
        cols: Absolute pixel columns, shape (w,).

    Returns:
        uint8, shape (3, h, w), at least 1 (0 is reserved for nodata).
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


Colour = tuple[int, int, int]

# The two colours between which the texture varies, per season; brightness at nominal exposure, 0..255.
_GREEN: dict[Season, tuple[Colour, Colour]] = {
    "green": ((82, 92, 60), (120, 122, 86)),
    "dry": ((166, 150, 112), (132, 122, 86)),
    "winter": ((124, 112, 88), (104, 98, 74)),
    "autumn": ((122, 112, 72), (98, 100, 62)),
}
_LAWN: dict[Season, tuple[Colour, Colour]] = {
    "green": ((82, 96, 60), (108, 116, 78)),
    "dry": ((128, 124, 86), (152, 142, 108)),
    "winter": ((134, 124, 98), (112, 106, 82)),
    "autumn": ((104, 108, 68), (126, 118, 84)),
}
_LITTER: dict[Season, tuple[Colour, Colour]] = {
    "green": ((70, 80, 48), (104, 104, 70)),
    "dry": ((142, 128, 98), (110, 102, 74)),
    "winter": ((112, 100, 82), (92, 84, 68)),
    "autumn": ((110, 94, 64), (90, 84, 56)),
}
_CONSTANT: dict[str, tuple[Colour, Colour]] = {
    "soil": ((164, 146, 120), (124, 108, 88)),
    "pad": ((186, 168, 138), (150, 130, 104)),
    "mulch": ((122, 106, 86), (102, 90, 72)),
    "asphalt": ((112, 111, 108), (124, 122, 117)),
    "worn": ((142, 138, 130), (128, 124, 116)),
    "concrete": ((194, 188, 176), (178, 172, 160)),
    "gravel": ((176, 168, 150), (154, 146, 130)),
    "paint": ((190, 184, 160), (170, 164, 142)),
    "fence": ((72, 64, 54), (84, 74, 62)),
    "water": ((88, 168, 190), (110, 186, 204)),
}
_CROPS: tuple[tuple[Colour, Colour], ...] = (
    ((72, 92, 54), (90, 104, 62)),
    ((94, 112, 58), (112, 124, 72)),
    ((180, 164, 122), (160, 146, 108)),
    ((116, 98, 80), (96, 82, 68)),
    ((158, 142, 108), (136, 122, 94)),
    ((142, 128, 112), (124, 112, 96)),
)
_CROP_ODDS: dict[Season, tuple[float, ...]] = {
    "green": (0.4, 0.3, 0.05, 0.15, 0.05, 0.05),
    "dry": (0.05, 0.1, 0.4, 0.1, 0.25, 0.1),
    "winter": (0.05, 0.1, 0.0, 0.4, 0.2, 0.25),
    "autumn": (0.1, 0.1, 0.1, 0.3, 0.3, 0.1),
}
# Share of brightness that fine and middle texture change, and tree density (times that of the layout).
_ROUGHNESS: dict[str, tuple[float, float, float]] = {
    "meadow": (0.12, 0.10, 0.7),
    "lawn": (0.07, 0.06, 1.0),
    "wood": (0.12, 0.10, 0.0),
    "field": (0.05, 0.04, 0.0),
    "soil": (0.09, 0.10, 0.1),
    "pad": (0.05, 0.07, 0.0),
    "mulch": (0.06, 0.06, 0.0),
}
_HARD = (0.025, 0.02, 0.0)
_SEASONAL = {"meadow": _GREEN, "lawn": _LAWN, "wood": _LITTER}


@dataclass(frozen=True, eq=False)
class Surface:
    """One patch's material on both dates."""

    colours: DoubleArray
    """Two end colours per date, 0..255, shape (2 dates, 2 ends, 3 bands)."""
    fine: float
    """Standard deviation of the fine texture, as a share of brightness."""
    middle: float
    """The same for the middle texture."""
    trees: float
    """Density of trees, 0..1."""
    rows: tuple[float, float]
    """Amplitude of tilled rows as a share of brightness, before and after."""
    wave: tuple[float, float]
    """Wave vector of the rows, east and south, radians/m."""


def draw_surface(
    rng: np.random.Generator, name: str, seasons: tuple[Season, Season], tree_density: float
) -> Surface:
    """A patch of a material with its own random shade.

    Args:
        rng: Generator of the patch's block; the number of draws does not depend on the name.
        name: Material: meadow, lawn, wood, field, soil, pad, or a paved one.
        seasons: Seasons of the before and the after date.
        tree_density: Tree density of the layout's gardens, 0..1.
    """
    tint = 1.0 + rng.normal(0.0, 0.05) + rng.normal(0.0, 0.018, 3)
    drift = 1.0 + rng.normal(0.0, 0.05, 2)
    crops, lush = rng.random(2), rng.uniform(0.2, 2.0)
    angle, spacing, strength = rng.uniform(0, np.pi), rng.uniform(1.6, 4.5), rng.uniform(0.0, 0.09, 2)
    ends = [_ends(name, season, crop) for season, crop in zip(seasons, crops, strict=True)]
    colours = np.array(ends, dtype=np.float64)
    colours *= tint
    if name in _ROUGHNESS:
        colours *= drift[:, None, None]
    fine, middle, trees = _ROUGHNESS.get(name, _HARD)
    density = 0.9 if name == "wood" else trees * tree_density * lush
    wave = (float(2 * np.pi / spacing * np.cos(angle)), float(2 * np.pi / spacing * np.sin(angle)))
    rows = (float(strength[0]), float(strength[1])) if name == "field" else (0.0, 0.0)
    return Surface(colours, fine, middle, density, rows, wave)


def _ends(name: str, season: Season, crop: float) -> tuple[Colour, Colour]:
    """The two end colours of a material on a date."""
    if name == "field":
        return _CROPS[int(np.searchsorted(np.cumsum(_CROP_ODDS[season]), crop).clip(0, len(_CROPS) - 1))]
    if name in _SEASONAL:
        return _SEASONAL[name][season]
    return _CONSTANT[name]
