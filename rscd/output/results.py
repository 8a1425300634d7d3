"""Results of a run: paths, areas, costs, and further facts for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rscd.core.resources import Telemetry
from rscd.output.vector.reviews import NONE, Carried
from rscd.scene.inspection import Inspection

if TYPE_CHECKING:
    from rscd.scene.prepare import Prepared


@dataclass(frozen=True)
class Result:
    """The result of ``detect``."""

    written: Written
    """Paths, polygons, areas."""
    inspection: Inspection
    """Measurements of the pair, and the verdict on it."""
    threshold: float
    """Probability from which a pixel counted as changed, 0..1."""
    windows: int
    """Windows forwarded."""
    windows_skipped: int
    """Windows that were not forwarded because they have no valid pixel."""
    bands_resumed: int
    """Strips that an earlier, interrupted run had finished."""
    device: str
    """Device that the network ran on."""
    model: str
    """Name and version of the model."""
    licence: str
    """Licence of the model's weights."""
    seconds: float
    """Wall time in s."""
    cost: Telemetry
    """Times of the stages, and memory."""


@dataclass(frozen=True)
class PairFacts:
    """Verdict on the pair, as far as the run measured it."""

    verdict: str = "Pair on one grid."
    """Verdict in a few words."""
    reason: str = "Whether the dates are shifted against each other was not measured in this run."
    """Reason of the verdict."""
    level: str = ""
    """``good``, ``warn``, ``bad``, or empty if nothing was measured."""
    shifts: Sequence[tuple[float, float, float, float]] = ()
    """Measured shifts: column and row on the grid, shift to the right and down, all in px."""

    @classmethod
    def of(cls, prepared: Prepared) -> PairFacts:
        """Results of a pair's inspection, and the remaining shifts."""
        found = prepared.inspection
        level = {"fit": "good", "fit after alignment": "good", "doubtful": "warn"}.get(found.verdict, "bad")
        top, left = prepared.pair.crop[:2]
        shifts = [(p.col - left, p.row - top, p.cols, p.rows) for p in prepared.shift.patches]
        reasons = [*found.reasons, *found.notes]
        shift = found.residual or found.shift
        if shift is not None and shift.patches:
            reasons.append(f"shift {shift.length_px:.2f} px, measured on {shift.patches} patches")
        return cls(f"Pair {found.verdict}.", "; ".join(reasons).capitalize() or cls.reason, level, shifts)


@dataclass(frozen=True)
class Facts:
    """Contents of the report page other than pictures and polygons."""

    written: Written
    """Outputs of the run."""
    threshold: float
    """Probability from which a pixel counted as changed, 0..1."""
    cost: Telemetry
    """Times and memory."""
    provenance: Mapping[str, Any]
    """Inputs, options, model contract, versions, times: as in the GeoPackage's metadata."""
    precision: str = ""
    """Precision of the network's arithmetic."""
    pair: PairFacts = PairFacts()
    """Verdict on the pair."""
    title: str = ""
    """Title of the page; empty: a one-line summary of the result."""
    dates: tuple[str, str] = ("", "")
    """Acquisition dates of the images, if known."""


@dataclass(frozen=True)
class Written:
    """Outputs of a run."""

    geopackage: Path
    """The vector file: a GeoPackage, or another format by its suffix."""
    probability: Path | None
    """The probability raster, if requested."""
    polygons: int
    """Features in the layer ``changes``."""
    changed_m2: float
    """Total area of the polygons, geodesic m2."""
    observed_km2: float
    """Area valid in both dates, geodesic km2."""
    not_observable_km2: float
    """Area not valid in at least one date, geodesic km2."""
    min_area_m2: float
    """Components smaller than this were dropped, m2."""
    project: Path | None = None
    """The QGIS project, if requested."""
    outside_aoi_km2: float = 0.0
    """Area outside the area of interest, geodesic km2."""
    directions: Mapping[str, int] = field(default_factory=dict)
    """Number of polygons by direction (appeared, vanished, replaced, unclear); empty without a presence head."""
    directions_m2: Mapping[str, float] = field(default_factory=dict)
    """Area by direction, geodesic m2."""
    reviews: Carried = NONE
    """What became of the reviews in the replaced file."""
    read_errors: tuple[str, ...] = ()
    """Input blocks that could not be decoded and were masked: file, rows, columns, and why."""
