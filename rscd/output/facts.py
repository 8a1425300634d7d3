"""What the report tells beside pictures and polygons: the run's numbers, its cost, and how fit the pair was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rscd.telemetry import Telemetry

if TYPE_CHECKING:
    from rscd.output.outputs import Written
    from rscd.scene.prepare import Prepared


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
        told = [*found.reasons, *found.notes]
        shift = found.residual or found.shift
        if shift is not None and shift.patches:
            told.append(f"shift {shift.length_px:.2f} px, measured on {shift.patches} patches")
        return cls(f"Pair {found.verdict}.", "; ".join(told).capitalize() or cls.reason, level, shifts)


@dataclass(frozen=True)
class Facts:
    """What the page tells beside the pictures and the polygons."""

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
