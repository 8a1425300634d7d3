"""Which pixels a date shows, and what the network sees where it shows none."""

from __future__ import annotations

from typing import Any

import numpy as np
from rasterio.enums import MaskFlags
from rasterio.windows import Window as RasterWindow
from scipy.ndimage import distance_transform_edt

from rscd.types import BoolArray, ByteArray


def read_validity(
    dataset: Any, bands: tuple[int, ...], window: RasterWindow, pixels: ByteArray  # noqa: ANN401
) -> BoolArray:
    """Validity (h, w) of a window just read: internal mask or alpha, else the nodata value.

    With a nodata value, a pixel is not observable when *all* its bands hold it: one dark band is data.
    """
    flags = dataset.mask_flag_enums[bands[0] - 1]
    if MaskFlags.all_valid in flags:
        return np.ones(pixels.shape[1:], bool)
    if MaskFlags.nodata in flags:
        nodata = np.array([dataset.nodatavals[b - 1] for b in bands])[:, None, None]
        return np.asarray((pixels != nodata).any(axis=0))
    return np.asarray(dataset.read_masks(bands[0], window=window) > 0)


def fill_invalid(pixels: ByteArray, valid: BoolArray) -> ByteArray:
    """Give each invalid pixel of (bands, h, w) the colour of its nearest valid one, if there is any.

    So a nodata collar is no black cliff to the network.
    """
    if valid.all() or not valid.any():
        return pixels
    rows, cols = distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return pixels[:, rows, cols]
