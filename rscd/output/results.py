"""What a run did: paths, areas, costs, and what the report says beside pictures and polygons."""

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
    """What ``detect`` returns."""

    written: Written
    """Paths, polygons, areas."""
    inspection: Inspection
    """How the pair was found, and the verdict on it."""
    threshold: float
    """Probability from which a pixel counted as changed, 0..1."""
    windows: int
    """Windows forwarded."""
    windows_skipped: int
    """Windows not forwarded, for they have no valid pixel."""
    bands_resumed: int
    """Bands that an earlier, interrupted run had finished."""
    device: str
    """Where the network ran."""
    model: str
    """Name and version of the model."""
    licence: str
    """Terms of the model's weights."""
    seconds: float
    """Wall time in s."""
    cost: Telemetry
    """Times of the stages, and memory."""


@dataclass(frozen=True)
class PairFacts:
    """How fit the pair was to be compared, as far as the run measured it."""

    verdict: str = "Pair on one grid."
    """A few words."""
    reason: str = "Whether the dates are shifted against each other was not measured in this run."
    """Why."""
    level: str = ""
    """``good``, ``warn``, ``bad``, or empty where nothing was measured."""
    shifts: Sequence[tuple[float, float, float, float]] = ()
    """Measured shifts: column and row on the grid, shift to the right and down, all in px."""

    @classmethod
    def of(cls, prepared: Prepared) -> PairFacts:
        """What the inspection of a pair found, and the shifts that remain in it."""
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
    """What the report page shows beside pictures and polygons."""

    written: Written
    """What came out of the run."""
    threshold: float
    """Probability from which a pixel counted as changed, 0..1."""
    cost: Telemetry
    """Times and memory."""
    provenance: Mapping[str, Any]
    """Inputs, options, model contract, versions, times: as in the GeoPackage's metadata."""
    precision: str = ""
    """Arithmetic of the network."""
    pair: PairFacts = PairFacts()
    """How fit the pair was."""
    title: str = ""
    """What the page is to be called; empty: the result in a line."""
    dates: tuple[str, str] = ("", "")
    """When the images were taken, where that is known."""


@dataclass(frozen=True)
class Written:
    """What came out of a run."""

    geopackage: Path
    """The vector file: a GeoPackage, or another format by its suffix."""
    probability: Path | None
    """The probability raster, if one was asked for."""
    polygons: int
    """Features in the layer ``changes``."""
    changed_m2: float
    """Their area together, geodesic m2."""
    observed_km2: float
    """What both dates show, geodesic km2."""
    not_observable_km2: float
    """What at least one date does not show, geodesic km2."""
    min_area_m2: float
    """Components smaller than this were dropped, m2."""
    project: Path | None = None
    """The QGIS project, if one was asked for."""
    outside_aoi_km2: float = 0.0
    """What lies outside the area of interest, geodesic km2."""
    directions: Mapping[str, int] = field(default_factory=dict)
    """How many polygons appeared, vanished, were replaced or are unclear; empty without a presence head."""
    directions_m2: Mapping[str, float] = field(default_factory=dict)
    """Their area, geodesic m2."""
    reviews: Carried = NONE
    """What became of the reviews in the file that was replaced."""
    read_errors: tuple[str, ...] = ()
    """Input blocks that could not be decoded and were masked: file, rows, columns, and why."""
