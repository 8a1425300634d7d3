"""What is known of a pair before it is compared, and the verdict on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from rscd.scene.shift import ShiftMap

Verdict = Literal["fit", "fit after alignment", "doubtful", "outside what the model takes", "refused"]

LEAST_VALID = 0.05
"""Share of the overlap that both dates should show."""
MOST_COARSER = 2.0
"""Factor between the dates' pixel sizes up to which a pair is fit."""
MOST_RESIDUAL_PX = 1.0
"""Shift that may remain, px."""
MOST_OFFSET = 64.0
"""Difference of medians on the 0..255 scale that the seasons may explain."""
MOST_CONTRAST = 3.0
"""Factor between the dates' contrasts that the seasons may explain."""


@dataclass(frozen=True)
class DateFacts:
    """One file."""

    path: str
    """The file."""
    crs: str
    """Its CRS, e.g. ``EPSG:32614``."""
    width: int
    """Columns."""
    height: int
    """Rows."""
    gsd_m: float
    """Ground sample distance in its middle, m."""
    transform: tuple[float, ...]
    """Its affine transform (a, b, c, d, e, f)."""
    dtype: str
    """dtype of its pixels."""
    bands: tuple[int, ...]
    """Bands that are read, from 1."""
    valid_share: float
    """Share of the sampled pixels that it shows, 0..1."""
    read: str
    """How it comes onto the common grid: as it is, or warped: bilinear, average."""
    scaling: dict[str, Any] | None
    """Gain and offset a band that bring its values to 0..255; None: 8-bit, taken as it is."""
    nir: int | None = None
    """Near-infrared band that is read for ``ndvi_change``."""
    taken: str = ""
    """Day that the file's tag TIFFTAG_DATETIME names, as 2024-05-31; empty if it names none."""


@dataclass(frozen=True)
class Difference:
    """How the dates differ in light, on the 0..255 scale, after scaling. Change is among it."""

    offset: tuple[float, ...]
    """Median of after - before, a band."""
    contrast: float
    """Ratio of standard deviations, after / before."""
    correlation: float
    """Correlation of brightness, -1..1."""


@dataclass(frozen=True)
class ShiftFacts:
    """Measured displacement of the after image; None where it could not be measured."""

    rows_px: float | None
    """Down, px of the common grid."""
    cols_px: float | None
    """To the right, px."""
    metres: float | None
    """Its length on the ground, m."""
    spread_px: float | None
    """Robust standard deviation among the patches that agree, px."""
    confidence: float
    """Share of the patches that agree, 0..1."""
    patches: int
    """Patches that were measured."""

    @classmethod
    def of(cls, shift: ShiftMap, gsd_m: float) -> ShiftFacts:
        """Round a shift map for people."""
        if not shift.patches:
            return cls(None, None, None, None, 0.0, 0)
        return cls(
            rows_px=round(shift.rows, 3),
            cols_px=round(shift.cols, 3),
            metres=round(shift.length_px * gsd_m, 3),
            spread_px=round(shift.spread_px, 3),
            confidence=round(shift.confidence, 3),
            patches=len(shift.patches),
        )

    @property
    def length_px(self) -> float:
        """Its length, px; NaN where nothing could be measured."""
        if self.rows_px is None or self.cols_px is None:
            return math.nan
        return math.hypot(self.rows_px, self.cols_px)


@dataclass(frozen=True)
class Inspection:
    """What ``rscd inspect`` says, and what ``rscd detect`` goes by."""

    verdict: Verdict
    """Whether the pair can be compared."""
    reasons: tuple[str, ...]
    """Why it is not simply fit."""
    remedies: tuple[str, ...]
    """What would help."""
    notes: tuple[str, ...] = ()
    """What is done to the pair, and what is merely worth knowing."""
    before: DateFacts | None = None
    """The earlier date."""
    after: DateFacts | None = None
    """The later date."""
    grid: str = "before"
    """Whose grid is the common one."""
    overlap_share: float = 0.0
    """Share of the common grid that both files cover, 0..1."""
    origin_offset: tuple[float, float] | None = None
    """Top left corner of the after file minus that of the before file, (x, y) in CRS units; None across CRSs."""
    valid_share: float = 0.0
    """Share of the sampled pixels of the overlap that both dates show, 0..1."""
    difference: Difference | None = None
    """Radiometric difference."""
    shift: ShiftFacts | None = None
    """Shift as found."""
    aligned: bool = False
    """Whether the shift is corrected."""
    residual: ShiftFacts | None = None
    """Shift measured again with the correction; None without one."""
    blocks_read: int = 0
    """Blocks of the sample."""
    blocks: int = 0
    """Blocks of the overlap."""
    gsd_m: float = 0.0
    """Ground sample distance of the common grid, m."""
    model_gsd_m: float | None = None
    """Ground sample distance at which the model sees it, where it is resampled for that, m."""
    search_radius_px: float = 0.0
    """Longest shift that a patch can show, px."""

    @property
    def days(self) -> tuple[str, str]:
        """When the dates were taken, as the files' tags say; empty where they say nothing."""
        return (self.before.taken if self.before else "", self.after.taken if self.after else "")

    @property
    def line(self) -> str:
        """One line for a run's start."""
        why = f": {'; '.join(self.reasons)}" if self.reasons else ""
        notes = f" ({'; '.join(self.notes)})" if self.notes else ""
        return f"pair {self.verdict}{why}{notes}"


def doubts(
    *,
    valid_share: float,
    ratio: float,
    difference: Difference,
    shift: ShiftMap,
    residual: ShiftMap | None,
    least_shift_px: float,
) -> list[tuple[str, str]]:
    """Reasons, each with its remedy, for which a pair is not simply fit.

    Args:
        valid_share: Share of the overlap that both dates show.
        ratio: Pixel size of the before image divided by that of the after image.
        difference: In light.
        shift: As found.
        residual: What remains after correction; None where none is made.
        least_shift_px: Shifts up to this do not matter.
    """
    found: list[tuple[str, str]] = []
    if valid_share < LEAST_VALID:
        found.append((f"both dates show only {valid_share:.1%} of the overlap", "check nodata values and masks"))
    if max(ratio, 1 / ratio) > MOST_COARSER * 1.01:
        reason = f"pixels of one date are {max(ratio, 1 / ratio):.2g} times those of the other"
        found.append((reason, "take the coarser date's grid with --grid"))
    found += _shift_doubts(shift, residual, least_shift_px)
    largest = max((abs(v) for v in difference.offset), default=0.0)
    odd = not 1 / MOST_CONTRAST <= difference.contrast <= MOST_CONTRAST
    if largest > MOST_OFFSET or odd:
        reason = f"light differs: median by {largest:.0f} of 255, contrast by {difference.contrast:.2g}"
        found.append((reason, "try --match on"))
    return found


def _shift_doubts(shift: ShiftMap, residual: ShiftMap | None, least: float) -> list[tuple[str, str]]:
    left = shift if residual is None else residual
    if not shift.patches:
        reason = "the shift between the dates could not be measured: too small, or nothing to see"
        return [(reason, "look at both dates over each other")]
    if not shift.consistent:
        reason = f"the shift between the dates is uncertain: {shift.agreeing} of {len(shift.patches)} patches agree"
        return [(reason, "look at both dates over each other; register them if they are apart")]
    if residual is None and not shift.correctable:
        if shift.length_px <= MOST_RESIDUAL_PX:
            return []
        reason = (
            f"the dates lie {shift.length_px:.2f} px apart, but not everywhere alike (by {shift.spread_px:.2f} px)"
        )
        return [(f"{reason}: no one shift corrects them", "orthorectify both dates on one elevation model")]
    if left.length_px > MOST_RESIDUAL_PX or (residual is None and left.length_px > least):
        reason = f"the dates lie {left.length_px:.2f} px apart"
        return [(reason, "let --align auto correct it" if residual is None else "register them first")]
    return []
