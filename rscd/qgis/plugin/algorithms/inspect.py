"""``rscd inspect`` in QGIS."""

from __future__ import annotations

import json
from typing import Any

from qgis.core import QgsProcessingOutputNumber, QgsProcessingOutputString

from ..parameters import Option, area, model, more, raster
from .base import Algorithm
from .detect import mask_options, pair_options


class InspectAlgorithm(Algorithm):
    """Say whether a pair is fit to be compared."""

    command = "inspect"
    title = "Is this pair fit to be compared?"
    about = (
        "Looks at grids, overlap, brightness and the shift between the dates, and gives a verdict: fit, fit after "
        "alignment, doubtful, outside what the model takes, or refused; with reasons, and what would help."
    )
    accepted = 0, 3

    def options(self) -> list[Option]:
        """As the command has them."""
        return [
            raster("BEFORE", "Before: image of the earlier date"),
            raster("AFTER", "After: image of the later date"),
            area(),
            *model(),
            *pair_options(),
            *mask_options(),
            more(),
        ]

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: ANN401 - QGIS's
        """Declare parameters and outputs."""
        super().initAlgorithm(configuration)
        self.addOutput(QgsProcessingOutputString("VERDICT", "Verdict"))
        self.addOutput(QgsProcessingOutputString("REASONS", "Reasons, with remedies"))
        self.addOutput(QgsProcessingOutputNumber("OVERLAP", "Share of the grid that is in both files, 0..1"))
        self.addOutput(QgsProcessingOutputNumber("SHIFT", "Shift between the dates in m"))

    def processAlgorithm(self, parameters: dict, context: Any, feedback: Any) -> dict[str, Any]:  # noqa: ANN401
        """Run it, and show the verdict; a refusal is a result, too."""
        ended = self.run_program([*self.prepared, "--json"], feedback, progress=False)
        found = json.loads(ended.output)
        reasons = [" - ".join(pair) for pair in zip(found["reasons"], found["remedies"])]
        shift = found.get("shift") or {}
        results = {
            "VERDICT": found["verdict"],
            "REASONS": "\n".join(reasons),
            "OVERLAP": found.get("overlap_share"),
            "SHIFT": shift.get("metres"),
        }
        for line in (f"verdict: {found['verdict']}", *reasons, *found.get("notes", ())):
            feedback.pushInfo(line)
        for name, label in (("OVERLAP", "overlap"), ("SHIFT", "shift in m")):
            if results[name] is not None:
                feedback.pushInfo(f"{label}: {results[name]:.3g}")
        return results
