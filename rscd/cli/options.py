"""Options that several commands share, and parsing of those that are lists."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Output = Annotated[Path, typer.Option("-o", "--output", help="Vector file: .gpkg, .fgb, .geojson or .parquet.")]
Threshold = Annotated[float | None, typer.Option(help="Probability from which a pixel is changed, 0..1.")]
MinArea = Annotated[float | None, typer.Option("--min-area", help="Smallest polygon, in m2.")]
Simplify = Annotated[float, typer.Option("--simplify", help="Simplify outlines within this many m.")]
FillHoles = Annotated[float, typer.Option("--fill-holes", help="Fill empty holes smaller than this many m2.")]
Regularize = Annotated[bool, typer.Option("--regularize", help="Right-angled outlines (extra regularize).")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda:N.")]
Model = Annotated[str, typer.Option(help="Name of an embedded model, or a checkpoint file.")]


def band_list(text: str | None) -> tuple[int, ...] | None:
    """Parse ``1,2,3``.

    Raises:
        typer.BadParameter: Not a list of whole numbers.
    """
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"--bands {text!r}: give numbers from 1, such as 1,2,3") from error
