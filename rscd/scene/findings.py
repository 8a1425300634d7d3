"""Assembles the measurements of a pair: figures, notes, and the verdict."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np
from rasterio.enums import MaskFlags

from rscd.core.contract import Contract
from rscd.core.grid import Mapping, gsd_m, name_of
from rscd.core.types import Window, intersection
from rscd.scene.aligned import DateReader, WarpReader
from rscd.scene.bands import band_notes
from rscd.scene.inspection import DateFacts, Difference, Inspection, ShiftFacts, Verdict, doubts
from rscd.scene.metadata import date_taken, named_sensor, unseen
from rscd.scene.pair import Pair
from rscd.scene.raster import GDAL_ERRORS, Raster
from rscd.scene.sample import SamplePlan, Statistics
from rscd.scene.shift import SEARCH_PX, ShiftMap

BLOCKS = 16
"""Number of blocks of a file in which an alpha band is examined."""
SIDE = 512
"""Maximum number of rows and columns of each of them."""
LEAST_BETWEEN = 0.2
"""Share of an alpha band's values strictly between minimum and maximum from which it is probably an image."""
LEAST_VALUES = 16
"""Minimum number of different values of an image."""


def mask_notes(pair: Pair, plan: SamplePlan) -> list[str]:
    """Share of the sample that the masks hide, and where they do not apply."""
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
    """Messages on bands that are tagged alpha although they have as many values as an image.

    Returns:
        Doubts, each with its remedy, for such bands that hide ground; notes for the others.
    """
    rasters = {"before": pair.before.raster, "after": pair.after.raster}
    sampled = {name: _sampled(raster, raster.alpha) for name, raster in rasters.items() if raster.alpha is not None}
    found = {name: rasters[name].alpha for name, values in sampled.items() if looks_like_image(values)}
    flag = "--nir " + "/".join(dict.fromkeys(map(str, found.values()))) if len(found) == 2 else ""
    doubts: list[tuple[str, str]] = []
    notes: dict[str, list[str]] = {"before": [], "after": []}
    for name, band in found.items():
        words = "is tagged alpha and is probably near infrared"
        zeros = float((sampled[name] == 0).mean()) if _hides(rasters[name]) else 0.0
        if zeros > 0:
            tag = f"take the tag away: gdal_edit.py -colorinterp_{band} undefined '{rasters[name].path}'"
            reason = f"band {band} of {name} {words}, and its zeros hide {zeros:.1%} of the date"
            doubts.append((reason, f"add {flag}, or {tag}" if flag else tag))
        else:
            notes[name].append(f"band {band} {words}" + (f": {flag} reads it for ndvi_change" if flag else ""))
    return doubts, band_notes(notes)


def _hides(raster: Raster) -> bool:
    """Whether an alpha band of a file is used: a nodata value and an internal mask take precedence."""
    flags = raster.dataset.mask_flag_enums[raster.bands[0] - 1]
    return MaskFlags.nodata not in flags and (MaskFlags.per_dataset not in flags or MaskFlags.alpha in flags)


def looks_like_image(values: Any) -> bool:  # noqa: ANN401
    """Whether sampled values (n,) of an alpha band are many, and few of them the minimum or the maximum."""
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
        place = intersection(place, raster.blocks.file)
        with suppress(*GDAL_ERRORS):  # the run itself will report that block
            part = (place.row, place.row_stop), (place.col, place.col_stop)
            found.append(raster.dataset.read(band, window=part).ravel())
    return np.concatenate(found)


LEAST_SHIFT_PX = 0.3
"""Shifts up to this are not corrected, px of the common grid."""


def dates_of(pair: Pair) -> dict[str, DateReader]:
    """``before`` and ``after``, with their readers."""
    return {"before": pair.before, "after": pair.after}


def inspection_of(
    pair: Pair,
    contract: Contract,
    plan: SamplePlan,
    seen: Statistics,
    difference: Difference,
    shift: ShiftMap,
    residual: ShiftMap | None,
) -> Inspection:
    """Assemble the figures and judge them."""
    valid_share = seen.both_valid / seen.pixels
    sizes = gsd_m(pair.before.raster.grid), gsd_m(pair.after.raster.grid)
    found = doubts(
        valid_share=valid_share,
        ratio=sizes[0] / sizes[1],
        difference=difference,
        shift=shift,
        residual=residual,
        least_shift_px=LEAST_SHIFT_PX,
    )
    alpha_doubts, alpha_notes = alpha_words(pair)
    found += alpha_doubts
    verdict: Verdict = "doubtful" if found else "fit" if residual is None else "fit after alignment"
    gsd = gsd_m(pair.full)
    return Inspection(
        verdict=verdict,
        reasons=tuple(reason for reason, _ in found),
        remedies=tuple(remedy for _, remedy in found),
        notes=(*_notes(pair, contract, plan, seen, shift, residual), *alpha_notes),
        before=_facts(pair.before, seen.before_valid / seen.pixels),
        after=_facts(pair.after, seen.after_valid / seen.pixels),
        grid=pair.grid_from,
        overlap_share=round(pair.overlap.share, 4),
        origin_offset=_origin_offset(pair),
        valid_share=round(valid_share, 4),
        difference=difference,
        shift=ShiftFacts.of(shift, gsd),
        aligned=residual is not None,
        residual=None if residual is None else ShiftFacts.of(residual, gsd),
        search_radius_px=SEARCH_PX,
        blocks_read=len(plan.blocks),
        blocks=plan.total,
        gsd_m=round(gsd, 4),
    )


def _notes(
    pair: Pair,
    contract: Contract,
    plan: SamplePlan,
    seen: Statistics,
    shift: ShiftMap,
    residual: ShiftMap | None,
) -> tuple[str, ...]:
    notes = band_notes({name: date.raster.notes for name, date in dates_of(pair).items()})
    notes += mask_notes(pair, plan)
    if not pair.one_scale:
        words = " and ".join(f"{name} {date.raster.dtype}" for name, date in dates_of(pair).items())
        notes.append(f"{words}: brightness_change stays empty")
    notes += [f"{name} {_way(date)}" for name, date in dates_of(pair).items() if isinstance(date, WarpReader)]
    for name, date in dates_of(pair).items():
        sensor = named_sensor(date.raster.dataset.tags())
        if unseen(sensor, contract.trained_on):
            notes.append(f"{name} is of {sensor} by its tags, which model {contract.name} was not trained on")
    if seen.same_pixels:
        notes.append("both dates show the same pixels: nothing can have changed")
    if residual is not None:
        notes.append(f"shift of {shift.length_px:.2f} px corrected, {residual.length_px:.2f} px remain")
    notes += [f"{name} scaled from {date.raster.dtype}" for name, date in dates_of(pair).items() if date.radiometry]
    for name, date in dates_of(pair).items():
        if blocks := date.raster.blocks.missing:
            words = f"{blocks:,} of {date.raster.blocks.stored.size:,} blocks of {name} were never written"
            notes.append(f"{words}: not observable")
    if masked := pair.bad_blocks.take():
        notes.append(f"{len(masked)} blocks of the sample cannot be read and are masked: {masked[0]}")
    return tuple(notes)


def _way(date: DateReader) -> str:
    if not isinstance(date, WarpReader):
        return "not resampled"
    return f"warped, {date.kernel.name}"


def _facts(date: DateReader, valid_share: float) -> DateFacts:
    raster, grid = date.raster, date.raster.grid
    return DateFacts(
        path=str(raster.path),
        crs=name_of(grid),
        width=grid.width,
        height=grid.height,
        gsd_m=round(gsd_m(grid), 4),
        transform=grid.transform,
        dtype=raster.dtype,
        bands=raster.bands,
        nir=raster.nir,
        taken=date_taken(raster.dataset.tags()),
        valid_share=round(valid_share, 4),
        read=_way(date),
        scaling=None if date.radiometry is None else asdict(date.radiometry),
    )


def _origin_offset(pair: Pair) -> tuple[float, float] | None:
    """Top left corner of the after file minus that of the before file, CRS units; None across CRSs."""
    one, other = pair.before.raster.grid, pair.after.raster.grid
    if not Mapping(one, other).same_crs:
        return None
    return other.transform[2] - one.transform[2], other.transform[5] - one.transform[5]
