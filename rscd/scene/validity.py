"""Which pixels a date shows, and what the network sees where it shows none."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.windows import Window as RasterWindow
from scipy.ndimage import distance_transform_edt

from rscd.types import BoolArray, ImageArray

T = TypeVar("T", bound=np.generic)


def read_validity(
    dataset: Any,  # noqa: ANN401
    bands: tuple[int, ...],
    window: RasterWindow,
    pixels: ImageArray,
    alpha: int | None = None,
) -> BoolArray:
    """Validity (h, w) of a window just read: finite, and shown by nodata value, internal mask or alpha.

    A nodata value goes before an alpha band, as in GDAL: near infrared is often called alpha by mistake.

    Args:
        dataset: The open file.
        bands: Bands that were read, from 1.
        window: What was read.
        pixels: Shape (bands, h, w).
        alpha: The band whose zeros are not valid, if there is one.
    """
    finite = np.isfinite(pixels).all(axis=0)
    flags = dataset.mask_flag_enums[bands[0] - 1]
    if MaskFlags.nodata in flags:
        return np.asarray(finite & ~holds_nodata(pixels, [dataset.nodatavals[b - 1] for b in bands]))
    if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
        return np.asarray(finite & (dataset.read_masks(bands[0], window=window) > 0))
    if alpha is not None:
        return np.asarray(finite & (dataset.read(alpha, window=window) > 0))
    return np.asarray(finite)


def holds_nodata(pixels: ImageArray, values: list[float | None]) -> BoolArray:
    """Where (h, w) pixels (bands, h, w) are nodata, each band having its own value, or None.

    All bands must hold it where the value may be data too: one band that is 0 in a dark place is data. A negative
    one, or one of floating point pixels, cannot be: any band that holds it hides the pixel.
    """
    held = np.stack([band == _as_pixel(value, pixels.dtype) for band, value in zip(pixels, values, strict=True)])
    plain = pixels.dtype.kind == "u" or all(value is None or value >= 0 for value in values)
    return np.asarray(held.all(axis=0) if plain and pixels.dtype.kind != "f" else held.any(axis=0))


def _as_pixel(value: float | None, dtype: np.dtype[Any]) -> Any:  # noqa: ANN401
    """The value as a pixel would hold it; NaN, which equals nothing, where no pixel can."""
    if value is None or np.isnan(value):
        return np.float64("nan")
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.asarray(value, dtype)[()]
    held = np.iinfo(dtype).min <= value <= np.iinfo(dtype).max and value == int(value)
    return np.asarray(int(value), dtype)[()] if held else np.float64("nan")


def fill_invalid(pixels: NDArray[T], valid: BoolArray) -> NDArray[T]:
    """Give each invalid pixel of (bands, h, w) the colour of its nearest valid one, if there is any.

    So a nodata collar is no black cliff to the network.
    """
    if valid.all() or not valid.any():
        return pixels
    rows, cols = distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return pixels[:, rows, cols]
