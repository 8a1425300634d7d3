"""Options of detection: the forward pass, the polygons, the outputs."""

from __future__ import annotations

from dataclasses import KW_ONLY
from pathlib import Path
from typing import Annotated

from rscd.core.errors import UsageError
from rscd.options.declare import Option, options
from rscd.options.pair import PairConfig
from rscd.options.types import (
    MOST_BATCH,
    AtLeast0,
    BackendName,
    Device,
    Precision,
    Probability,
    WindowSide,
    auto_or_number,
    check_overlap,
    two_dates,
    within,
)


@options
class PolygonOptions:
    """Polygons: which pixels count as changed, and how outlines are drawn."""

    _: KW_ONLY
    threshold: Annotated[Probability, Option("polygons", metavar="0..1")] = None
    """Calibrated probability from which a pixel counts as changed; default: the model's; of
    ``rscd polygons`` that of the run that wrote the raster, else 0.5."""
    min_area_m2: Annotated[float | None, AtLeast0, Option("polygons")] = None
    """Minimum polygon area in m2; default: the model's minimum mapping unit at the scene's pixel size; of
    ``rscd polygons`` that of the run that wrote the raster."""
    simplify_m: Annotated[float, AtLeast0, Option("polygons")] = 0.0
    """Tolerance of outline simplification in m; 0 keeps the pixel outline."""
    fill_holes_m2: Annotated[float, AtLeast0, Option("polygons")] = 0.0
    """Fill holes smaller than this in m2, unless another polygon or unobservable ground lies in them."""
    regularize: Annotated[bool, Option("polygons")] = False
    """Make outlines right-angled if the IoU with the pixel outline stays at 0.8 or more (extra ``regularize``)."""


@options
class ForwardOptions:
    """Forward pass: windows, device, precision."""

    _: KW_ONLY
    window: Annotated[WindowSide, Option("strips", resolved=True)] = None
    """Side of a window in px, a multiple of 32; default: the model's. With ``lite`` models a small scene, of at
    most 1,024 px of the model's size, is a single window by default."""
    overlap: Annotated[int | None, Option("strips", resolved=True)] = None
    """Overlap of windows in px; default: the model's; if it is given, a small scene is not a single window."""
    device: Annotated[Device, Option("rounding", metavar="[auto|cpu|cuda:N]", resolved=True)] = "auto"
    """Device that the network runs on."""
    precision: Annotated[Precision, Option("strips", resolved=True)] = "auto"
    """``auto``: bf16 on CUDA, and on CPUs with bf16 for models whose probabilities it was measured to change little
    (``buildings``, in OpenVINO); else fp32."""
    backend: Annotated[BackendName, Option("strips", resolved=True)] = "auto"
    """Library that runs the network: ``torch`` or ``openvino``; ``auto`` uses ``openvino`` on CPUs if it is
    installed."""
    tta: Annotated[bool, Option("strips")] = False
    """Test-time augmentation: mean over the eight rotations and flips of each window; takes 8 times as long."""


@options
class OutputOptions:
    """Outputs: whether existing files may be replaced."""

    _: KW_ONLY
    overwrite: Annotated[bool, Option(of_pair=True)] = False
    """Replace existing outputs."""
    discard_reviews: Annotated[bool, Option()] = False
    """Discard the reviews in the file that is replaced; by default they are carried over."""


@options
class DetectConfig(OutputOptions, PolygonOptions, ForwardOptions, PairConfig):
    """Detection: model, outputs, resuming a run."""

    output: Annotated[Path, Option(short="-o", of_pair=True)]
    """Vector file to write, in the format of its suffix, such as .gpkg or .geojson."""
    probability: Annotated[Path | None, Option(of_pair=True)] = None
    """Probability raster (COG) to write."""
    report: Annotated[Path | None, Option(of_pair=True)] = None
    """Report page (HTML) to write."""
    _: KW_ONLY
    project: Annotated[Path | None, Option(of_pair=True)] = None
    """QGIS project (.qgz) to write: both images, changes and their extent, ready for review."""
    model: Annotated[str | None, Option("strips", resolved=True, model=True)] = None
    """Name of an embedded model, or a checkpoint file; default: the embedded model whose pixel sizes fit."""
    batch_size: Annotated[
        int | None,
        within(lambda v: 1 <= v <= MOST_BATCH, f"use auto, or 1 to {MOST_BATCH}"),
        Option("strips", metavar="[auto|N]", resolved=True, parse=auto_or_number),
    ] = None
    """Windows per forward pass; ``auto``: one on a CPU, found by a short search on CUDA."""
    resume: Annotated[bool, Option(of_pair=True)] = True
    """Reuse the strips that an interrupted run on this output finished; otherwise start from the beginning."""
    keep_journal: Annotated[bool, Option(of_pair=True)] = False
    """Keep the finished strips in OUTPUT.rscd/, so that another threshold needs no forward pass."""
    full_paths: Annotated[bool, Option(of_pair=True)] = False
    """Write full paths; by default paths are relative to the output's folder. The report has file names only."""
    title: Annotated[str, Option("report", of_pair=True, metavar="TEXT")] = ""
    """Title of the report; default: a one-line summary of the result."""
    dates: Annotated[tuple[str, str] | None, Option("report", of_pair=True, metavar="A,B", parse=two_dates)] = None
    """Acquisition dates for the report, in any wording; default: the files' tags TIFFTAG_DATETIME."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_overlap(self.window, self.overlap)
        if self.project is not None and self.project.suffix.lower() != ".qgz":
            raise UsageError("--project writes .qgz", path=self.project, remedy="give it a name that ends in .qgz")
        if self.project is not None and self.output.suffix.lower() == ".parquet":
            problem = "--project shows the vector file, and many builds of QGIS cannot read .parquet"
            raise UsageError(problem, path=self.output, remedy="use .gpkg, .fgb or .geojson")

    @property
    def inputs(self) -> tuple[Path, ...]:
        """All files that are read; none of them may be an output."""
        named = [Path(self.model)] if self.model is not None else []
        return *self.rasters.values(), *named, *([self.aoi] if self.aoi else [])


@options
class PolygonsConfig(OutputOptions, PolygonOptions):
    """Files: input raster and output."""

    probability: Annotated[Path, Option(argument=True)]
    """Probability raster that ``rscd detect --probability`` wrote."""
    output: Annotated[Path, Option(short="-o")]
    """Vector file to write, in the format of its suffix, such as .gpkg or .geojson."""
