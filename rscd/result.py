"""What a run did, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

from rscd.output.outputs import Written
from rscd.scene.inspection import Inspection
from rscd.telemetry import Telemetry


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
