"""``rscd polygons``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rscd.cli import options
from rscd.cli.console import exit_codes, print_json, print_table, say
from rscd.cli.detect import summary
from rscd.cli.progress import megapixels


def polygons(
    probability: Annotated[Path, typer.Argument(help="Probability raster from rscd detect --probability.")],
    output: options.Output,
    threshold: Annotated[
        float | None,
        typer.Option(metavar="0..1", help="Probability from which a pixel is changed; default: that of the run."),
    ] = None,
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
        from rscd.options.config import PolygonsConfig

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
        from rscd.output.probability import KeptProbability
        from rscd.workflows.polygons import polygons as run
        from rscd.workflows.polygons import threshold_of

        with megapixels("polygons", quiet=quiet or as_json) as progress:
            written = run(config, progress=progress, on_start=partial(say, quiet=quiet or as_json))
        if as_json:
            print_json(written, written.geopackage)
        elif not quiet:
            kept = KeptProbability(probability)
            model = kept.run.get("model")
            rows = [("model", f"{model['name']} {model['version']}")] if isinstance(model, dict) else []
            print_table([*summary(written, threshold_of(config, kept)), *rows])
