"""What hides ground of a date beside nodata, in words for the inspection: masks, and bands tagged alpha."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
from rasterio.enums import MaskFlags

from rscd.scene.blocks import GDAL_ERRORS
from rscd.scene.colours import band_notes
from rscd.scene.pair import Pair
from rscd.scene.raster import Raster
from rscd.scene.sample import SamplePlan
from rscd.types import Window, meet

BLOCKS = 16
"""Blocks of a file in which an alpha band is looked at."""
SIDE = 512
"""Of each, so many rows and columns at most."""
LEAST_BETWEEN = 0.2
"""Share of an alpha band's values between its least and its largest from which it is rather an image."""
LEAST_VALUES = 16
"""Values that an image holds at least."""


def mask_notes(pair: Pair, plan: SamplePlan) -> list[str]:
    """What the masks hide of the sample, and where they say nothing."""
    notes = []
    for name, date in (("before", pair.before), ("after", pair.after)):
        if date.masked is None:
            continue
        shares = [date.masked.read(block) for block in plan.blocks]
        pixels = sum(hidden.size for hidden, _ in shares)
        hidden, covered = (sum(int(part.sum()) for part in parts) / pixels for parts in zip(*shares, strict=True))
        note = f"the mask of {name} hides {hidden:.1%} of the sample"
        if covered < 1 or not date.masked.covers(pair.region):
            missing = f"{1 - covered:.1%}" if covered < 0.9995 else "less than 0.1%"
            note += f"; of {missing} it says nothing, and that counts as not masked"
        notes.append(note)
    return notes


def alpha_words(pair: Pair) -> tuple[list[tuple[str, str]], list[str]]:
    """What to say of bands that are tagged alpha though they hold as many values as an image does.

    Returns:
        Doubts, each with its remedy, where such a band hides ground; notes where it does not.
    """
    rasters = {"before": pair.before.raster, "after": pair.after.raster}
    sampled = {name: _sampled(raster, raster.alpha) for name, raster in rasters.items() if raster.alpha is not None}
    found = {name: rasters[name].alpha for name, values in sampled.items() if looks_like_image(values)}
    flag = "--nir " + "/".join(dict.fromkeys(map(str, found.values()))) if len(found) == 2 else ""
    doubts: list[tuple[str, str]] = []
    notes: dict[str, list[str]] = {"before": [], "after": []}
    for name, band in found.items():
        told = "is tagged alpha and is probably near infrared"
        zeros = float((sampled[name] == 0).mean()) if _hides(rasters[name]) else 0.0
        if zeros > 0:
            tag = f"take the tag away: gdal_edit.py -colorinterp_{band} undefined '{rasters[name].path}'"
            reason = f"band {band} of {name} {told}, and its zeros hide {zeros:.1%} of the date"
            doubts.append((reason, f"add {flag}, or {tag}" if flag else tag))
        else:
            notes[name].append(f"band {band} {told}" + (f": {flag} reads it for ndvi_change" if flag else ""))
    return doubts, band_notes(notes)


def _hides(raster: Raster) -> bool:
    """Whether an alpha band of a file is used: a nodata value and a mask inside the file go before it."""
    flags = raster.dataset.mask_flag_enums[raster.bands[0] - 1]
    return MaskFlags.nodata not in flags and (MaskFlags.per_dataset not in flags or MaskFlags.alpha in flags)


def looks_like_image(values: Any) -> bool:  # noqa: ANN401
    """Whether sampled values (n,) of an alpha band are many, and few of them the least or the largest."""
    if not len(values):
        return False
    between = (values > values.min()) & (values < values.max())
    return bool(between.mean() > LEAST_BETWEEN and len(np.unique(values)) >= LEAST_VALUES)


def _sampled(raster: Raster, band: int) -> Any:  # noqa: ANN401
    """Values of a band from a few stored blocks, spread over the file, shape (n,)."""
    stored = np.argwhere(raster.blocks.stored)
    chosen = stored[np.unique(np.linspace(0, len(stored) - 1, BLOCKS).round().astype(int))]
    found = [np.zeros(0, raster.dtype)]
    for i, j in chosen.tolist():
        height, width = raster.blocks.height, raster.blocks.width
        place = Window(i * height, j * width, min(height, SIDE), min(width, SIDE))
        place = meet(place, raster.blocks.file)
        with suppress(*GDAL_ERRORS):  # the run itself will meet that block
            part = (place.row, place.row_stop), (place.col, place.col_stop)
            found.append(raster.dataset.read(band, window=part).ravel())
    return np.concatenate(found)
