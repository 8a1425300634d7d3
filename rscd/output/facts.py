"""What the report tells beside pictures and polygons: the run's numbers, its cost, and how fit the pair was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rscd.telemetry import Telemetry

if TYPE_CHECKING:
    from rscd.output.outputs import Written


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
