"""``rscd polygons``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rscd.cli import options
from rscd.cli.console import exit_codes, print_json, print_table
from rscd.cli.detect import summary
from rscd.cli.progress import megapixels


def polygons(
    probability: Annotated[Path, typer.Argument(help="Probability raster from rscd detect --probability.")],
    output: options.Output,
    threshold: Annotated[float, typer.Option(help="Probability from which a pixel is changed, 0..1.")] = 0.5,
    min_area: options.MinArea = None,
    simplify: options.Simplify = 0.0,
    fill_holes: options.FillHoles = 0.0,
    regularize: options.Regularize = False,
    overwrite: options.Overwrite = False,
    discard_reviews: options.DiscardReviews = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make polygons anew from a kept probability raster, without a forward pass."""
    with exit_codes():
        from rscd.cli.early import refuse_early
        from rscd.config import PolygonsConfig

        config = PolygonsConfig(
            probability=probability,
            output=output,
            threshold=threshold,
            min_area_m2=min_area,
            simplify_m=simplify,
            fill_holes_m2=fill_holes,
            regularize=regularize,
            overwrite=overwrite,
            discard_reviews=discard_reviews,
        )
        refuse_early(config)
        from rscd.polygons import polygons as run

        with megapixels("polygons", quiet=quiet or as_json) as progress:
            written = run(config, progress=progress)
        if as_json:
            print_json(written, written.geopackage)
        elif not quiet:
            print_table(summary(written, threshold))
