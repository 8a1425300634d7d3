"""``rscd detect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rscd.cli import options
from rscd.cli.console import exit_codes, print_json, print_table, say
from rscd.cli.progress import megapixels
from rscd.cli.signals import stopping
from rscd.core.errors import several

if TYPE_CHECKING:
    from rscd.options.config import DetectConfig
    from rscd.output.results import Result, Written


SHOWN = 10
"""So many of the blocks that could not be read are listed."""


def detect(
    before: Annotated[Path, typer.Argument(help="GeoTIFF of the earlier date.")],
    after: Annotated[Path, typer.Argument(help="GeoTIFF of the later date.")],
    output: options.Output,
    probability: Annotated[Path | None, typer.Option(help="Probability raster (COG) to write.")] = None,
    report: Annotated[Path | None, typer.Option(help="Report page (HTML) to write.")] = None,
    model: options.Model = None,
    threshold: options.Threshold = None,
    min_area: options.MinArea = None,
    simplify: options.Simplify = 0.0,
    fill_holes: options.FillHoles = 0.0,
    regularize: options.Regularize = False,
    bands: options.Bands = None,
    nir: options.Nir = None,
    grid: options.CommonGrid = "before",
    align: options.Align = "auto",
    match: options.Match = "off",
    aoi: options.AreaOfInterest = None,
    before_mask: options.BeforeMask = None,
    after_mask: options.AfterMask = None,
    mask_values: options.MaskValues = None,
    assume_same_crs: options.AssumeSameCrs = False,
    sidecars: options.Sidecars = False,
    bad_blocks: options.BadBlocks = "stop",
    window: options.WindowSide = None,
    overlap: options.Overlap = None,
    device: options.Device = "auto",
    precision: options.ForwardPrecision = "auto",
    batch_size: options.BatchSize = "auto",
    tta: options.Tta = False,
    force_gsd: options.ForceGsd = False,
    overwrite: options.Overwrite = False,
    discard_reviews: options.DiscardReviews = False,
    full_paths: options.FullPaths = False,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Go on where an ended run was.")] = True,
    title: Annotated[str, typer.Option(metavar="TEXT", help="Title of the report; default: the result.")] = "",
    dates: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="When the images were taken, for the report; default: from their tags."),
    ] = None,
    keep_journal: Annotated[bool, typer.Option(help="Keep finished bands in OUTPUT.rscd/ after the run.")] = False,
    scheduler: options.Scheduler = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Map what changed between two GeoTIFFs into a GeoPackage."""
    with exit_codes():
        from rscd.cli.early import refuse_early
        from rscd.options.config import DetectConfig

        config = DetectConfig(
            before=before,
            after=after,
            output=output,
            probability=probability,
            report=report,
            model=model,
            threshold=threshold,
            min_area_m2=min_area,
            simplify_m=simplify,
            fill_holes_m2=fill_holes,
            regularize=regularize,
            **options.band_lists(bands),
            **options.nir_bands(nir),
            mask_values=options.value_list(mask_values),
            grid=grid,
            align=align,
            match=match,
            bad_blocks=bad_blocks,
            aoi=aoi,
            before_mask=before_mask,
            after_mask=after_mask,
            assume_same_crs=assume_same_crs,
            sidecars=sidecars,
            window=window,
            overlap=overlap,
            device=device,
            precision=precision,
            batch_size=options.auto_or_number("--batch-size", batch_size),
            tta=tta,
            force_gsd=force_gsd,
            overwrite=overwrite,
            resume=resume,
            keep_journal=keep_journal,
            discard_reviews=discard_reviews,
            full_paths=full_paths,
            title=title,
            dates=options.two_dates(dates),
        )
        refuse_early(config)
        quiet = quiet or as_json
        result = _run(config, scheduler, quiet=quiet)
        if as_json:
            print_json(result, result.written.geopackage)
        if not quiet:
            odd = result.inspection.verdict not in ("fit", "fit after alignment")
            print_table(
                [
                    *([("pair", result.inspection.verdict)] if odd else []),
                    *summary(result.written, result.threshold, config.report),
                    ("windows", f"{result.windows:,} forwarded, {result.windows_skipped:,} without a valid pixel"),
                    *(
                        [("resumed", f"{several(result.bands_resumed, 'band')} of an earlier run")]
                        * (result.bands_resumed > 0)
                    ),
                    *cost_rows(result),
                ],
            )


def _run(config: DetectConfig, scheduler: str | None, *, quiet: bool) -> Result:
    """Detect here, or on the workers of a cluster."""

    def told(line: str) -> None:
        say(line, quiet=quiet)

    with megapixels("detect", quiet=quiet) as progress:
        from rscd.workflows.detect import detect as run

        with stopping() as interrupt:
            return run(config, scheduler=scheduler, progress=progress, on_start=told, interrupt=interrupt)


def cost_rows(result: Result) -> list[tuple[str, str]]:
    """Rows of the closing table on time and memory."""
    cost = result.cost
    taken = ", ".join(f"{name} {seconds / cost.wall_s:.0%}" for name, seconds in cost.stages_s.items())
    memory = f"{cost.peak_memory_mb:,.0f} MB"
    if cost.gpu_memory_mb is not None:
        memory += f", and {cost.gpu_memory_mb:,.0f} MB on the GPU"
    return [
        ("time", f"{cost.wall_s:.1f} s on {result.device}, busy {cost.device_busy:.0%} of it"),
        ("stages", f"{taken} of the time; they overlap"),
        ("peak memory", memory),
    ]


def summary(written: Written, threshold: float, report: Path | None = None) -> list[tuple[str, str]]:
    """Rows of the closing table that detect and polygons share."""
    rows = [
        ("changes", f"{several(written.polygons, 'polygon')}, {written.changed_m2:,.0f} m2"),
        *([("", ", ".join(f"{n:,} {way}" for way, n in written.directions.items()))] if written.directions else []),
        ("observed", f"{written.observed_km2:.4f} km2"),
        ("not observable", f"{written.not_observable_km2:.4f} km2"),
        *([("outside the AOI", f"{written.outside_aoi_km2:.4f} km2")] if written.outside_aoi_km2 else []),
        ("threshold", f"p >= {threshold:.4g}, at least {written.min_area_m2:.3g} m2"),
        ("written", str(written.geopackage)),
    ]
    rows += [("", str(path)) for path in (written.probability, report) if path is not None]
    rows += [("reviews", str(written.reviews))] * bool(written.reviews)
    if bad := written.read_errors:
        rows += [("unreadable", f"{several(len(bad), 'block')} of the inputs, masked: not observable")]
        rows += [("", words) for words in bad[:SHOWN]]
        rows += [("", f"and {len(bad) - SHOWN} more, in the provenance of {written.geopackage}")] * (
            len(bad) > SHOWN
        )
    return rows
