"""Randomness that depends on keys and absolute coordinates alone, never on the order of drawing."""

from __future__ import annotations

import zlib

import numpy as np
from scipy import ndimage

from rscd.types import FloatArray, LongArray

PERIODS = (509, 631)
"""Sides of the two noise tiles that are added, px; coprime, so their sum repeats after 321 thousand px."""
SCALES_PX = (0.6, 3.0, 14.0)
"""Gaussian widths of the fine, middle and large texture, px."""


def stream(*keys: int | str) -> np.random.Generator:
    """A generator that is a pure function of its keys (negative numbers are allowed)."""
    words = [zlib.crc32(key.encode()) if isinstance(key, str) else key & 0xFFFFFFFF for key in keys]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


class Texture:
    """Value noise over the whole plane, cut out at any place by modular indexing.

    Args:
        seed: The scene's seed.
        name: Tells independent textures of a scene apart.
        sigma_px: Correlation length, px; 0 is white noise.
    """

    def __init__(self, seed: int, name: str, sigma_px: float) -> None:
        self._tiles = [_periodic_tile(stream(seed, name, n), n, sigma_px) for n in PERIODS]

    def cut(self, rows: LongArray, cols: LongArray) -> FloatArray:
        """Noise of mean 0 and variance 1 at absolute pixels.

        Args:
            rows: Pixel rows, int64, shape (h,).
            cols: Pixel columns, int64, shape (w,).

        Returns:
            float32, shape (h, w).
        """
        first, second = (tile[np.ix_(rows % n, cols % n)] for tile, n in zip(self._tiles, PERIODS, strict=True))
        return np.asarray(first + second, dtype=np.float32)


def _periodic_tile(rng: np.random.Generator, side: int, sigma_px: float) -> FloatArray:
    """A square of smoothed noise whose opposite edges fit, variance 1/2, shape (side, side)."""
    tile = rng.standard_normal((side, side), dtype=np.float32)
    if sigma_px > 0:
        tile = ndimage.gaussian_filter(tile, sigma_px, mode="wrap")
    tile -= tile.mean()
    return np.asarray(tile * (np.sqrt(0.5) / tile.std()), dtype=np.float32)
