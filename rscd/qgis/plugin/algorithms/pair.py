"""The algorithms of one pair: ``rscd detect``, ``rscd inspect`` and ``rscd polygons`` in QGIS."""

from __future__ import annotations

import json
from typing import Any

from qgis.core import (
    QgsProcessingOutputNumber,
    QgsProcessingOutputString,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterVectorDestination,
)

from ..names import POLYGONS
from ..parameters import Option, advanced, area, choice, model, more, number, raster, switch, text, whole
from .base import Algorithm


def polygon_options() -> list[Option]:
    """Which pixels count as changed, and how outlines are drawn."""
    return [
        number(
            "THRESHOLD",
            "Threshold: probability from which a pixel counts (empty: the model's)",
            "--threshold",
            most=1.0,
        ),
        number("MIN_AREA", "Smallest change in m2 (empty: the model's)", "--min-area"),
        advanced(number("SIMPLIFY", "Tolerance of outline simplification, m", "--simplify")),
        advanced(number("FILL_HOLES", "Fill holes smaller than, m2", "--fill-holes")),
        advanced(switch("REGULARIZE", "Make outlines right-angled", on=["--regularize"])),
    ]


def pair_options() -> list[Option]:
    """Options that make two files a comparable pair."""
    return [
        switch("ALIGN", "Correct a consistent shift between the dates", off=["--align", "off"], default=True),
        advanced(switch("MATCH", "Fit brightness and contrast of one date to the other", on=["--match", "on"])),
        advanced(choice("GRID", "Pixel grid of the result", "--grid", ("before", "after"))),
        advanced(text("BANDS", "Bands, such as 3,2,1, or 3,2,1/1,2,3 for before and after", "--bands")),
        advanced(text("NIR", "Near-infrared band, such as 4, or 4/5", "--nir")),
        advanced(switch("SAME_CRS", "If one file has no CRS, use that of the other", on=["--assume-same-crs"])),
        advanced(
            switch("SIDECARS", "Read .aux.xml, .tfw, .msk and .ovr files next to the images", on=["--sidecars"])
        ),
        advanced(switch("BAD_BLOCKS", "Mask unreadable blocks, and continue", on=["--bad-blocks", "mask"])),
        advanced(
            switch("FORCE_GSD", "Continue if the pixel size is outside the model's range", on=["--force-gsd"])
        ),
    ]


def mask_options() -> list[Option]:
    """Masks of both dates."""
    return [
        advanced(raster("BEFORE_MASK", "Mask of the before image, such as clouds", "--before-mask", optional=True)),
        advanced(raster("AFTER_MASK", "Mask of the after image", "--after-mask", optional=True)),
        advanced(text("MASK_VALUES", "Values of both masks that are masked, such as 3,8,9", "--mask-values")),
    ]


def forward_options() -> list[Option]:
    """Options of the forward pass."""
    return [
        advanced(text("DEVICE", "Device: auto, cpu or cuda:N", "--device", "auto")),
        advanced(whole("WINDOW", "Side of a window in px, a multiple of 32", "--window", 32)),
        advanced(whole("OVERLAP", "Overlap of windows in px", "--overlap")),
        advanced(switch("TTA", "Mean over eight rotations and flips: takes 8 times as long", on=["--tta"])),
        discard_reviews(),
    ]


def discard_reviews() -> Option:
    """Whether reviews in a replaced output are dropped."""
    label = "Drop the reviews in the file that is replaced"
    return advanced(switch("DISCARD_REVIEWS", label, on=["--discard-reviews"]))


class DetectAlgorithm(Algorithm):
    """Map what changed between two GeoTIFFs."""

    command = "detect"
    title = "Detect changes between two images"
    about = (
        "Maps what changed between two GeoTIFFs of the same place, as polygons with area, probability and a column "
        "for your review.\n\nCancel keeps what is finished: run it again with the same inputs and outputs, and it "
        "continues. An output that exists is replaced, and its reviews are carried over."
    )

    def options(self) -> list[Option]:
        """The options of the command, the common ones first."""
        return [
            raster("BEFORE", "Before: image of the earlier date"),
            raster("AFTER", "After: image of the later date"),
            area(),
            *model(),
            *polygon_options(),
            *pair_options(),
            *mask_options(),
            *forward_options(),
            advanced(
                switch("KEEP_JOURNAL", "Keep finished strips, to try other thresholds", on=["--keep-journal"])
            ),
            advanced(text("TITLE", "Title of the report", "--title")),
            advanced(text("DATES", "Dates for the report, such as 2019-05-31,2024-06-02", "--dates")),
            more(),
        ]

    def destinations(self) -> list[Any]:
        """Changes, probability raster, report."""
        return [
            QgsProcessingParameterVectorDestination("OUTPUT", "Changes", POLYGONS),
            QgsProcessingParameterRasterDestination("PROBABILITY", "Probability of change", None, True, False),
            QgsProcessingParameterFileDestination("REPORT", "Report page", "HTML (*.html)", None, True, False),
        ]

    def processAlgorithm(self, parameters: dict, context: Any, feedback: Any) -> dict[str, Any]:  # noqa: ANN401
        """Run it, and load the layers."""
        results = {"OUTPUT": self.parameterAsOutputLayer(parameters, "OUTPUT", context)}
        words = [*self.prepared, "-o", results["OUTPUT"], "--overwrite"]
        if parameters.get("PROBABILITY"):
            results["PROBABILITY"] = self.parameterAsOutputLayer(parameters, "PROBABILITY", context)
            words += ["--probability", results["PROBABILITY"]]
        if parameters.get("REPORT"):
            results["REPORT"] = self.parameterAsFileOutput(parameters, "REPORT", context)
            words += ["--report", results["REPORT"]]
        self.run_program(words, feedback)
        self.load_all(results["OUTPUT"], context)
        self.load_styled(results.get("PROBABILITY", ""), context)
        return results


class InspectAlgorithm(Algorithm):
    """Report whether a pair is fit to be compared."""

    command = "inspect"
    title = "Is this pair fit to be compared?"
    about = (
        "Looks at grids, overlap, brightness and the shift between the dates, and gives a verdict: fit, fit after "
        "alignment, doubtful, outside what the model takes, or refused; with reasons, and what would help."
    )
    accepted = 0, 3

    def options(self) -> list[Option]:
        """The options of the command."""
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
        """Run it, and show the verdict; a refusal is also a result."""
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


class PolygonsAlgorithm(Algorithm):
    """Make polygons from a probability raster."""

    command = "polygons"
    title = "Polygons at another threshold"
    about = (
        "Makes polygons again from a probability raster of rscd, at another threshold or smallest size; the "
        "network does not run. An output that exists is replaced, and its reviews are carried over."
    )

    def options(self) -> list[Option]:
        """The options of the command."""
        return [
            raster("PROBABILITY", "Probability of change, as rscd wrote it"),
            *polygon_options(),
            discard_reviews(),
            more(),
        ]

    def destinations(self) -> list[Any]:
        """The changes."""
        return [QgsProcessingParameterVectorDestination("OUTPUT", "Changes", POLYGONS)]

    def processAlgorithm(self, parameters: dict, context: Any, feedback: Any) -> dict[str, Any]:  # noqa: ANN401
        """Run it, and load the layers."""
        output = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        self.run_program([*self.prepared, "-o", output, "--overwrite"], feedback)
        self.load_all(output, context)
        return {"OUTPUT": output}
