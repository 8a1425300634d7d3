"""``rscd batch`` in QGIS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingOutputNumber,
    QgsProcessingOutputVectorLayer,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterFolderDestination,
)

from ..parameters import Option, advanced, choice, file, model, more, switch, whole
from .base import Algorithm
from .pair import forward_options, pair_options, polygon_options

SOME_FAILED = 6


class BatchAlgorithm(Algorithm):
    """Map what changed in many pairs."""

    command = "batch"
    title = "Detect changes in many pairs"
    about = (
        "Maps what changed in all pairs of a manifest (CSV with the columns id, before, after), or of two folders "
        "whose images have the same names, and makes one summary of all. Cancel keeps what is finished: run it "
        "again with the same folder, and it continues."
    )
    accepted = 0, SOME_FAILED
    lasting = "OUTPUT"

    def options(self) -> list[Option]:
        """The options of the command."""
        return [
            file("MANIFEST", "Manifest: CSV, GeoPackage, GeoJSON, GeoParquet or STAC"),
            file("BEFORE_DIR", "or: folder of the earlier images", "--before-dir", folder=True),
            file("AFTER_DIR", "and: folder of the later images", "--after-dir", folder=True),
            advanced(
                choice("MATCH_BY", "How files of the two folders are matched", "--match-by", ("name", "footprint"))
            ),
            *model(),
            *polygon_options(),
            *pair_options(),
            *forward_options(),
            switch("PROBABILITY", "Keep each pair's probability raster", on=["--probability"]),
            switch("REPORT", "Write each pair's report page", off=["--no-report"], default=True),
            advanced(whole("MAX_PAIRS", "Run at most this many pairs", "--max-pairs", 1)),
            more(),
        ]

    def destinations(self) -> list[Any]:
        """The archive's folder."""
        return [
            QgsProcessingParameterFolderDestination("OUTPUT", "Folder of the archive"),
            QgsProcessingParameterBoolean("LOAD", "Open the summary when it is done", True),
        ]

    def initAlgorithm(self, configuration: Any = None) -> None:  # noqa: ANN401 - QGIS's
        """Declare parameters and outputs."""
        super().initAlgorithm(configuration)
        self.addOutput(QgsProcessingOutputVectorLayer("SUMMARY", "Changes of all pairs"))
        self.addOutput(QgsProcessingOutputNumber("FAILED", "Pairs that failed"))

    def checkParameterValues(self, parameters: dict, context: Any) -> tuple[bool, str]:  # noqa: ANN401 - QGIS's
        """Require either a manifest or two folders."""
        manifest, folders = parameters.get("MANIFEST"), (parameters.get("BEFORE_DIR"), parameters.get("AFTER_DIR"))
        if bool(manifest) == all(folders) or (manifest and any(folders)):
            return False, "no pairs given, or given twice - give a manifest, or both folders"
        return super().checkParameterValues(parameters, context)

    def processAlgorithm(self, parameters: dict, context: Any, feedback: Any) -> dict[str, Any]:  # noqa: ANN401
        """Run it; failed pairs are reported, and the others are a result."""
        folder = self.parameterAsString(parameters, "OUTPUT", context)
        ended = self.run_program([*self.prepared, "-o", folder, "--json"], feedback)
        found = json.loads(ended.output)
        for failed in found["failed"]:
            feedback.reportError(f"{failed['id']}: {failed['error']}")
        if found["failed"]:
            feedback.reportError("Run it again with the same folder to try these pairs once more.")
        summary = str(Path(folder) / "summary.gpkg")
        if self.parameterAsBoolean(parameters, "LOAD", context):
            details = QgsProcessingContext.LayerDetails("changes", context.project(), "SUMMARY")
            context.addLayerToLoadOnCompletion(summary, details)
            layers = [(name, f"{summary}|layername={name}") for name in ("changes", "pairs")]
            self.load_all(summary, context, layers)
        return {"OUTPUT": folder, "SUMMARY": summary, "FAILED": len(found["failed"])}
