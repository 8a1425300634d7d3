"""``rscd polygons``."""

from __future__ import annotations

from functools import partial

from rscd.cli.command import Json, Quiet, command, refuse_early
from rscd.cli.console import Progress, print_json, print_table, say, silent
from rscd.cli.detect import summary
from rscd.cli.progress import megapixels
from rscd.options.detect import PolygonsConfig


@command(PolygonsConfig)
def polygons(
    config: PolygonsConfig, as_json: Json = False, quiet: Quiet = False, progress: Progress = "auto"
) -> None:
    """Make polygons again from a probability raster, without a forward pass."""
    refuse_early(config)
    from rscd.output.probability import KeptProbability
    from rscd.workflows.polygons import polygons as run
    from rscd.workflows.polygons import threshold_of

    quiet = silent(quiet=quiet, as_json=as_json, progress=progress)
    with megapixels("polygons", quiet=quiet) as bar:
        written = run(config, progress=bar, on_start=partial(say, quiet=quiet))
    if as_json:
        print_json(written, written.geopackage)
    elif not quiet:
        kept = KeptProbability(config.probability)
        model = kept.run.get("model")
        rows = [("model", f"{model['name']} {model['version']}")] if isinstance(model, dict) else []
        print_table([*summary(written, threshold_of(config, kept)), *rows])
