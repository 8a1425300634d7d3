"""Facts about a pair before it is compared, and the verdict on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from rscd.scene.shift import ShiftMap

Verdict = Literal["fit", "fit after alignment", "doubtful", "outside what the model takes", "refused"]

LEAST_VALID = 0.05
"""Minimum share of the overlap that is valid in both dates."""
MOST_COARSER = 2.0
"""Maximum ratio of the dates' pixel sizes."""
MOST_RESIDUAL_PX = 1.0
"""Maximum remaining shift, px."""
MOST_OFFSET = 64.0
"""Maximum difference of medians on the 0..255 scale that seasons may explain."""
MOST_CONTRAST = 3.0
"""Maximum ratio of the dates' contrasts that seasons may explain."""


@dataclass(frozen=True)
class DateFacts:
    """Facts about one file."""

    path: str
    """Path of the file."""
    crs: str
    """Its CRS, e.g. ``EPSG:32614``."""
    width: int
    """Columns."""
    height: int
    """Rows."""
    gsd_m: float
    """Ground sample distance at its centre, m."""
    transform: tuple[float, ...]
    """Its affine transform (a, b, c, d, e, f)."""
    dtype: str
    """dtype of its pixels."""
    bands: tuple[int, ...]
    """Bands that are read, from 1."""
    valid_share: float
    """Share of the sampled pixels that are valid, 0..1."""
    read: str
    """How it is brought to the common grid: unchanged, or warped (bilinear, average)."""
    scaling: dict[str, Any] | None
    """Gain and offset per band that scale its values to 0..255; None: 8-bit, unchanged."""
    nir: int | None = None
    """Near-infrared band that is read for ``ndvi_change``."""
    taken: str = ""
    """Day of the file's tag TIFFTAG_DATETIME, as 2024-05-31; empty if it has none."""


@dataclass(frozen=True)
class Difference:
    """Radiometric difference of the dates on the 0..255 scale, after scaling; includes real change."""

    offset: tuple[float, ...]
    """Median of after - before, per band."""
    contrast: float
    """Ratio of standard deviations, after / before."""
    correlation: float
    """Correlation of brightness, -1..1."""


@dataclass(frozen=True)
class ShiftFacts:
    """Measured displacement of the after image; None where it could not be measured."""

    rows_px: float | None
    """Shift downwards, px of the common grid."""
    cols_px: float | None
    """Shift to the right, px."""
    metres: float | None
    """Its length on the ground, m."""
    spread_px: float | None
    """Robust standard deviation of the agreeing patches, px."""
    confidence: float
    """Share of the patches that agree, 0..1."""
    patches: int
    """Number of measured patches."""

    @classmethod
    def of(cls, shift: ShiftMap, gsd_m: float) -> ShiftFacts:
        """A shift map with rounded values."""
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
        """Its length, px; NaN if nothing could be measured."""
        if self.rows_px is None or self.cols_px is None:
            return math.nan
        return math.hypot(self.rows_px, self.cols_px)


@dataclass(frozen=True)
class Inspection:
    """Result of ``rscd inspect``, and the basis of ``rscd detect``."""

    verdict: Verdict
    """Whether the pair can be compared."""
    reasons: tuple[str, ...]
    """Why it is not ``fit``."""
    remedies: tuple[str, ...]
    """What would help, for each reason."""
    notes: tuple[str, ...] = ()
    """Corrections made to the pair, and other information."""
    before: DateFacts | None = None
    """The earlier date."""
    after: DateFacts | None = None
    """The later date."""
    grid: str = "before"
    """Date whose grid is the common grid."""
    overlap_share: float = 0.0
    """Share of the common grid that both files cover, 0..1."""
    origin_offset: tuple[float, float] | None = None
    """Top left corner of the after file minus that of the before file, (x, y) in CRS units; None across CRSs."""
    valid_share: float = 0.0
    """Share of the sampled pixels of the overlap that are valid in both dates, 0..1."""
    difference: Difference | None = None
    """Radiometric difference."""
    shift: ShiftFacts | None = None
    """Measured shift."""
    aligned: bool = False
    """Whether the shift is corrected."""
    residual: ShiftFacts | None = None
    """Shift measured again after the correction; None without one."""
    blocks_read: int = 0
    """Number of sampled blocks."""
    blocks: int = 0
    """Number of blocks in the overlap."""
    gsd_m: float = 0.0
    """Ground sample distance of the common grid, m."""
    model_gsd_m: float | None = None
    """Ground sample distance to which the pair is resampled for the model, m; None if it is not."""
    search_radius_px: float = 0.0
    """Longest shift that a patch can detect, px."""

    @property
    def days(self) -> tuple[str, str]:
        """Acquisition days of both dates from the files' tags; empty if unknown."""
        return (self.before.taken if self.before else "", self.after.taken if self.after else "")

    @property
    def line(self) -> str:
        """One-line summary for the start of a run."""
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
    """Reasons, each with its remedy, why a pair is not ``fit``.

    Args:
        valid_share: Share of the overlap that is valid in both dates.
        ratio: Pixel size of the before image divided by that of the after image.
        difference: Radiometric difference.
        shift: Measured shift.
        residual: Remaining shift after correction; None without correction.
        least_shift_px: Shifts up to this are ignored.
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
