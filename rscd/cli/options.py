"""Options that several commands share, and parsing of those that are lists."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from rscd.options import config


def one_of(kind: Any, words: str, *names: str) -> Any:  # noqa: ANN401 - a Literal; what Typer takes
    """An option whose values are those of a Literal, shown as ``[one|other]``."""
    return typer.Option(*names, metavar=f"[{'|'.join(get_args(kind))}]", help=words)


Output = Annotated[Path, typer.Option("-o", "--output", help="Vector file: .gpkg, .fgb, .geojson or .parquet.")]
Threshold = Annotated[
    float | None,
    typer.Option(metavar="0..1", help="Probability from which a pixel is changed; default: the model's."),
]
MinArea = Annotated[float | None, typer.Option("--min-area", help="Smallest polygon, in m2.")]
Simplify = Annotated[float, typer.Option("--simplify", help="Simplify outlines within this many m.")]
FillHoles = Annotated[float, typer.Option("--fill-holes", help="Fill empty holes smaller than this many m2.")]
Regularize = Annotated[bool, typer.Option("--regularize", help="Right-angled outlines (extra regularize).")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")]
DiscardReviews = Annotated[
    bool,
    typer.Option("--discard-reviews", help="Drop the reviews in a file that is replaced; default: keep."),
]
FullPaths = Annotated[bool, typer.Option("--full-paths", help="Say in full where files lie, in the GeoPackage.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Device = Annotated[str, typer.Option(metavar="[auto|cpu|cuda:N]", help="Where the network runs.")]
Model = Annotated[
    str | None,
    typer.Option(help="Embedded model or checkpoint file; default: the embedded one whose pixel sizes fit."),
]
NamedModel = Annotated[str, typer.Option("--model", help="Name of an embedded model, or a checkpoint file.")]

Scheduler = Annotated[str | None, typer.Option(help="Dask scheduler, e.g. tcp://host:8786; default: this machine.")]
WindowSide = Annotated[int | None, typer.Option("--window", help="Window side in px, a multiple of 32.")]
Overlap = Annotated[int | None, typer.Option(help="Overlap of windows in px.")]
ForwardPrecision = Annotated[
    config.Precision,
    one_of(config.Precision, "auto is bf16 on a GPU, fp32 on a CPU.", "--precision"),
]
Tta = Annotated[
    bool, typer.Option("--tta", help="Average over eight turns and flips of each window: 8 x the time.")
]
BatchSize = Annotated[str, typer.Option(metavar="[auto|N]", help="Windows a forward pass.")]

Bands = Annotated[
    str | None, typer.Option(help="Bands of both files, e.g. 1,2,3; of each, before/after: 3,2,1/1,2,3.")
]
Nir = Annotated[str | None, typer.Option("--nir", help="Near-infrared band, for ndvi_change: 4, or 4/5; 0: none.")]
BeforeMask = Annotated[
    Path | None, typer.Option("--before-mask", help="Raster: the earlier date is not observable where it is not 0.")
]
AfterMask = Annotated[Path | None, typer.Option("--after-mask", help="Likewise of the later date.")]
MaskValues = Annotated[
    str | None, typer.Option("--mask-values", help="Mask values that hide, e.g. 3,8,9,10,11 of Sentinel-2's SCL.")
]
CommonGrid = Annotated[config.Whose, one_of(config.Whose, "Whose pixel grid is the common one.", "--grid")]
Align = Annotated[
    config.AutoOff,
    one_of(config.AutoOff, "auto corrects a consistent shift between the dates; off measures only."),
]
Match = Annotated[
    config.OnOff,
    one_of(config.OnOff, "on fits the other date's radiometry to the grid's date."),
]
AreaOfInterest = Annotated[Path | None, typer.Option("--aoi", help="Vector file: nothing outside it is looked at.")]
AssumeSameCrs = Annotated[bool, typer.Option("--assume-same-crs", help="A file without a CRS has the other's.")]
Sidecars = Annotated[bool, typer.Option("--sidecars", help="Read .aux.xml, .tfw, .msk, .ovr beside the inputs.")]
BadBlocks = Annotated[
    config.BadBlocks,
    one_of(config.BadBlocks, "Blocks that cannot be decoded: stop, or mask and list.", "--bad-blocks"),
]
ForceGsd = Annotated[bool, typer.Option("--force-gsd", help="Go on outside the model's pixel sizes.")]

DATA = "Folders of tiles (A/, B/, label/), folders of scenes (before, after, labels), lists of scenes (.csv)."
LabelledPair = Annotated[
    tuple[Path, Path, Path] | None,
    typer.Option("--pair", metavar="BEFORE AFTER LABELS", help="GeoTIFFs, and polygons of change or a raster."),
]
LabelledArea = Annotated[Path | None, typer.Option("--aoi", help="Vector file: outside it labels say nothing.")]


def two_dates(text: str | None) -> tuple[str, str] | None:
    """``A,B`` as two texts.

    Raises:
        typer.BadParameter: They are not two.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(parts):
        raise typer.BadParameter(f"--dates {text!r}: give both, such as 2019-05-31,2024-06-02")
    return parts[0], parts[1]


def value_list(text: str | None) -> tuple[int, ...] | None:
    """Parse ``3,8,9``, the values of ``--mask-values``.

    Raises:
        typer.BadParameter: Not a list of whole numbers.
    """
    return None if text is None else number_list("--mask-values", text, "3,8,9,10,11")


def band_lists(text: str | None) -> dict[str, Any]:
    """Parse ``1,2,3`` for both dates, or ``3,2,1/1,2,3`` for each: fields of a config.

    Raises:
        typer.BadParameter: Not one or two lists of whole numbers.
    """
    if text is None:
        return {"bands": None, "after_bands": None}
    before, slash, after = text.partition("/")
    example = "1,2,3, or 3,2,1/1,2,3 for before and after"
    first = number_list("--bands", before, example, whole=text)
    return {"bands": first, "after_bands": number_list("--bands", after, example, whole=text) if slash else None}


def nir_bands(text: str | None) -> dict[str, Any]:
    """Parse ``4`` for both dates, or ``4/5`` for each: fields of a config.

    Raises:
        typer.BadParameter: Not one or two whole numbers.
    """
    if text is None:
        return {"nir": None, "after_nir": None}
    before, slash, after = text.partition("/")
    try:
        return {"nir": int(before), "after_nir": int(after if slash else before)}
    except ValueError as error:
        raise typer.BadParameter(f"--nir {text!r}: give the number of a band, such as 4, or 4/5") from error


def number_list(option: str, text: str, example: str, whole: str = "") -> tuple[int, ...]:
    """Parse ``1,2,3``.

    Raises:
        typer.BadParameter: Not a list of whole numbers.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{option} {(whole or text)!r}: give numbers, such as {example}") from error


def auto_or_number(option: str, value: str) -> int | None:
    """Parse a whole number; None for ``auto``.

    Raises:
        typer.BadParameter: Neither.
    """
    if value == "auto":
        return None
    try:
        return int(value)
    except ValueError as error:
        raise typer.BadParameter(f"{option} {value!r}: use auto, or 1 or more") from error
