"""From a file's values to the model's 0..255: one linear scaling per scene and band, the same for every window.

8-bit imagery is not scaled. Other imagery is scaled so that its 2nd and 98th percentile, over the sampled pixels
valid in both dates, equal those of the other date if that is 8-bit, else those of the model's training imagery
(mean -+ 2 standard deviations). A single saturated pixel does not change percentiles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rscd.core.types import ByteArray, DoubleArray, FloatArray, ImageArray

LOW, HIGH = 2.0, 98.0
"""Percentiles that define the scaling."""
MOST_ROUNDS = 30
"""Maximum number of reweighting rounds in ``match``."""


@dataclass(frozen=True)
class Radiometry:
    """``gain * value + offset`` per band, clipped to 0..255."""

    gain: tuple[float, ...]
    """Factor of each band."""
    offset: tuple[float, ...]
    """Offset of each band, added after the factor, 0..255 scale."""

    def apply(self, pixels: ImageArray) -> FloatArray:
        """Scale pixels (bands, h, w) to float32 in 0..255; non-finite values become 0."""
        scaled = np.empty(pixels.shape, np.float32)
        for band, gain, offset, out in zip(pixels, self.gain, self.offset, scaled, strict=True):
            with np.errstate(invalid="ignore", over="ignore"):
                np.clip(band.astype(np.float64) * gain + offset, 0, 255, out=out, casting="unsafe")
        return np.nan_to_num(scaled, copy=False)

    def then(self, gain: DoubleArray, offset: DoubleArray) -> Radiometry:
        """This scaling, followed by another one."""
        both = np.multiply(self.gain, gain), np.multiply(self.offset, gain) + offset
        return Radiometry(tuple(map(float, both[0])), tuple(map(float, both[1])))


def scale(radiometry: Radiometry | None, pixels: ImageArray) -> ImageArray:
    """Apply a scaling; None leaves 8-bit pixels unchanged."""
    return pixels if radiometry is None else radiometry.apply(pixels)


def to_bytes(pixels: ImageArray) -> ByteArray:
    """Round values in 0..255 to uint8; uint8 is returned unchanged."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    return np.rint(np.clip(pixels.astype(np.float32, copy=False), 0, 255)).astype(np.uint8)


def percentiles(values: ImageArray) -> DoubleArray:
    """LOW and HIGH percentile of sampled values (n, bands), shape (2, bands)."""
    return np.asarray(np.percentile(values.astype(np.float64), [LOW, HIGH], axis=0))


def stretch(values: ImageArray, target: DoubleArray) -> Radiometry:
    """The scaling that maps the percentiles of values (n, bands) to ``target`` (2, bands) in 0..255.

    A band with equal percentiles gets the middle of the target.
    """
    low, high = percentiles(values)
    wide = high > low
    gain = np.where(wide, (target[1] - target[0]) / np.where(wide, high - low, 1), 0.0)
    offset = np.where(wide, target[0] - gain * low, target.mean(axis=0))
    return Radiometry(tuple(map(float, gain)), tuple(map(float, offset)))


def match(reference: DoubleArray, other: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Gain and offset per band that match ``other`` to ``reference``, both (n, bands), where nothing changed.

    Orthogonal regression per band, iteratively reweighted by Tukey's biweight of the residuals over all bands: a
    pixel that changed has a large residual in some band and loses its weight in all bands, as in IR-MAD (Nielsen
    2007).
    """
    weight = np.ones(len(reference))
    gain, offset = np.ones(reference.shape[1]), np.zeros(reference.shape[1])
    for _ in range(MOST_ROUNDS):
        total = weight.sum()
        mean_r, mean_o = weight @ reference / total, weight @ other / total
        r, o = reference - mean_r, other - mean_o
        rr, oo, ro = weight @ r**2, weight @ o**2, weight @ (r * o)
        half = (rr - oo) / 2
        new = np.where(ro > 0, (half + np.hypot(half, ro)) / np.where(ro > 0, ro, 1), gain)
        settled = np.abs(new - gain).max() < 1e-4
        gain, offset = new, mean_r - new * mean_o
        residual = reference - (gain * other + offset)
        spread = 1.4826 * np.median(np.abs(residual - np.median(residual, axis=0)), axis=0)
        worst = (np.abs(residual) / np.maximum(spread, 0.5)).max(axis=1) / 4.685
        weight = np.where(worst < 1, (1 - worst**2) ** 2, 0) + 1e-9
        if settled:
            break
    return gain, offset
