"""``rscd batch``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rscd.cli import options
from rscd.cli.console import exit_codes, print_json, print_table, say
from rscd.cli.progress import Bar
from rscd.core.errors import several
from rscd.options.config import MatchBy

if TYPE_CHECKING:
    from rscd.jobs.job import PairOutcome
    from rscd.options.config import BatchConfig
    from rscd.workflows.batch import BatchPlan, BatchResult


SOME_FAILED = 6
MOST_LISTED = 50
"""So many pairs are listed on the screen; all of them are in the ledger, and with --json."""

Folder = Annotated[Path, typer.Option("-o", "--output", help="Folder of the archive: DIR/<id>/ and the summary.")]


def batch(
    output: Folder,
    manifest: Annotated[
        Path | None,
        typer.Argument(help="CSV, GeoParquet, GeoJSON, GPKG (id,before,after[,aoi,threshold,model]) or STAC."),
    ] = None,
    before_dir: Annotated[Path | None, typer.Option(help="In place of MANIFEST: the earlier images.")] = None,
    after_dir: Annotated[Path | None, typer.Option(help="The later images.")] = None,
    match_by: Annotated[MatchBy, options.one_of(MatchBy, "How the two folders are matched.")] = "name",
    asset: Annotated[str | None, typer.Option(help="Key of the STAC asset that is the image.")] = None,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Let the manifest point anywhere, also to https:// and s3://.")
    ] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would run and how long, and run nothing.")] = False,
    scheduler: options.Scheduler = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes on this machine (extra cluster); default: none but this.")
    ] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the first worker of --scheduler.")] = 300.0,
    retries: Annotated[int, typer.Option(help="Tries again where not the pair was at fault.")] = 1,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first pair that fails.")] = False,
    max_pairs: Annotated[int | None, typer.Option(help="Run so many pairs at most.")] = None,
    probability: Annotated[
        bool, typer.Option("--probability", help="Keep each pair's probability raster.")
    ] = False,
    report: Annotated[bool, typer.Option(help="Write each pair's report page.")] = True,
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
    discard_reviews: options.DiscardReviews = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Map what changed in many pairs: what is missing is run, and one summary made of all."""
    with exit_codes():
        from rscd.cli.early import refuse_early
        from rscd.options.config import BatchConfig, DetectConfig

        shared = DetectConfig(
            before=Path(),
            after=Path(),
            output=Path(),
            probability=Path() if probability else None,
            report=Path() if report else None,
            model=model,
            threshold=threshold,
            min_area_m2=min_area,
            simplify_m=simplify,
            fill_holes_m2=fill_holes,
            regularize=regularize,
            **options.band_lists(bands),
            **options.nir_bands(nir),
            grid=grid,
            align=align,
            match=match,
            bad_blocks=bad_blocks,
            assume_same_crs=assume_same_crs,
            sidecars=sidecars,
            window=window,
            overlap=overlap,
            device=device,
            precision=precision,
            batch_size=options.auto_or_number("--batch-size", batch_size),
            tta=tta,
            force_gsd=force_gsd,
            discard_reviews=discard_reviews,
        )
        config = BatchConfig(
            output=output,
            detect=shared,
            manifest=manifest,
            before_dir=before_dir,
            after_dir=after_dir,
            match_by=match_by,
            asset=asset,
            allow_remote=allow_remote,
            scheduler=scheduler,
            workers=workers,
            wait_s=wait,
            retries=retries,
            fail_fast=fail_fast,
            max_pairs=max_pairs,
        )
        refuse_early(config)
        (_plan if plan else _run)(config, as_json=as_json, quiet=quiet or as_json)


def _plan(config: BatchConfig, *, as_json: bool, quiet: bool) -> None:
    import dataclasses

    from rscd.workflows.batch import plan_batch

    found = plan_batch(config)
    if as_json:
        print_json(dataclasses.asdict(found) | {"seconds": found.seconds})
    else:
        print_table(plan_rows(found), stdout=True)


def plan_rows(found: BatchPlan) -> list[tuple[str, str]]:
    """The table of ``--plan``."""
    rows = [
        (pair.id, pair.problem or f"{pair.width:,} x {pair.height:,} px, {several(pair.windows, 'window')}")
        for pair in found.pairs[:MOST_LISTED]
    ]
    more = len(found.pairs) - MOST_LISTED
    wrong = sum(bool(pair.problem) for pair in found.pairs)
    speed = f"{found.seconds_per_window:.3g} s a window, one batch measured here on {found.device}"
    return [
        *rows,
        *([("...", f"and {several(more, 'more pair')}")] if more > 0 else []),
        *(("", note) for note in found.notes),
        ("pairs", f"{len(found.pairs):,}, {found.megapixels:,.1f} Mpx, {several(found.windows, 'window')}"),
        *([("problems", f"{several(wrong, 'pair')} would fail, for what the headers say")] if wrong else []),
        ("time", f"about {_hours(found.seconds)} on one such worker ({speed})"),
        ("written", f"{found.resolved}; nothing was run"),
    ]


def _run(config: BatchConfig, *, as_json: bool, quiet: bool) -> None:
    from rscd.workflows.batch import PAIR
    from rscd.workflows.batch import batch as run

    def report(outcome: PairOutcome, number: int, total: int) -> None:
        what = several(outcome.polygons, "change") if outcome.state == "done" else f"FAILED: {outcome.error}"
        also = f"; {outcome.reviews}" if outcome.reviews else ""
        say(f"[{number}/{total}] {outcome.id}: {what}, {outcome.seconds:.1f} s{also}", quiet=quiet)

    bar = Bar("batch", "pairs", scale=PAIR, quiet=quiet)
    try:
        result = run(config, on_pair=report, tell=lambda line: say(line, quiet=quiet), progress=bar)
    finally:
        bar.close()
    if as_json:
        print_json(result, result.summary)
    elif not quiet or result.failed:
        print_table(result_rows(result))
    if result.failed:
        raise typer.Exit(SOME_FAILED)


def result_rows(result: BatchResult) -> list[tuple[str, str]]:
    """The closing table, with those that failed and why."""
    failed = [(f"  {entry.id}", entry.error) for entry in result.failed[:MOST_LISTED]]
    more = len(result.failed) - MOST_LISTED
    return [
        ("pairs", f"{result.pairs}: {result.done} done, {len(result.failed)} failed, {result.left} not run yet"),
        ("this run", f"worked on {result.ran}, {_hours(result.seconds)}"),
        *([("failed", "the same command tries them again")] if failed else []),
        *failed,
        *([("  ...", f"and {more} more, see ledger.sqlite")] if more > 0 else []),
        *([("reviews", f"in {result.summary.name}: {result.reviews}")] if result.reviews else []),
        ("written", str(result.summary)),
        ("", str(result.index)),
    ]


def _hours(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
