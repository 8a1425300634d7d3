"""``rscd batch``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rscd.cli.command import Json, Quiet, command, refuse_early, typed
from rscd.cli.console import Progress, print_json, print_table, say, silent
from rscd.cli.progress import Bar
from rscd.core.errors import several
from rscd.options.batch import BatchConfig
from rscd.options.declare import declared
from rscd.options.detect import DetectConfig

if TYPE_CHECKING:
    from rscd.jobs.job import PairOutcome
    from rscd.workflows.batch import BatchPlan, BatchResult


SOME_FAILED = 6
MOST_LISTED = 50
"""Failed pairs listed on the screen at most; all of them are in the ledger, and in the output of --json."""

SHARED = tuple(each for each in declared(DetectConfig) if not each.option.of_pair)
"""Options of detect that all pairs share."""


def _config(**given: Any) -> BatchConfig:  # noqa: ANN401 - as declared
    """The archive's options, including the detect options shared by all pairs."""
    shared = {each.name: given.pop(each.name) for each in SHARED if each.name in given}
    return BatchConfig(**given, detect=DetectConfig(Path(), Path(), output=Path(), **shared))


@command(_config, typed((*declared(BatchConfig), *SHARED)))
def batch(
    config: BatchConfig,
    plan: Annotated[bool, typer.Option("--plan", help="Estimate what would run, and run nothing.")] = False,
    probability: Annotated[
        bool, typer.Option("--probability", help="Keep each pair's probability raster.")
    ] = False,
    report: Annotated[bool, typer.Option(help="Write each pair's report page.")] = True,
    as_json: Json = False,
    quiet: Quiet = False,
    progress: Progress = "auto",
) -> None:
    """Map what changed in many pairs: run the missing ones, and write one summary of all."""
    outputs: dict[str, Any] = {"probability": Path() if probability else None, "report": Path() if report else None}
    config = replace(config, detect=replace(config.detect, **outputs))
    refuse_early(config)
    (_plan if plan else _run)(
        config, as_json=as_json, quiet=silent(quiet=quiet, as_json=as_json, progress=progress)
    )


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
    speed = f"{found.seconds_per_mpx:.3g} s per Mpx of windows, measured here with one batch on {found.device}"
    return [
        *rows,
        *([("...", f"and {several(more, 'more pair')}")] if more > 0 else []),
        *(("", note) for note in found.notes),
        ("pairs", f"{len(found.pairs):,}, {found.megapixels:,.1f} Mpx, {several(found.windows, 'window')}"),
        *([("problems", f"{several(wrong, 'pair')} would fail, according to the headers")] if wrong else []),
        ("time", f"about {_hours(found.seconds)} on one such worker ({speed})"),
        ("written", f"{found.resolved}; nothing was run"),
    ]


def _run(config: BatchConfig, *, as_json: bool, quiet: bool) -> None:
    from rscd.inference.device import own_process
    from rscd.workflows.batch import PAIR
    from rscd.workflows.batch import batch as run

    own_process(config.detect.device)

    def report(outcome: PairOutcome, number: int, total: int) -> None:
        what = several(outcome.polygons, "change") if outcome.state == "done" else f"FAILED: {outcome.error}"
        also = f"; {outcome.reviews}" if outcome.reviews else ""
        say(f"[{number}/{total}] {outcome.id}: {what}, {outcome.seconds:.1f} s{also}", quiet=quiet)

    bar = Bar("batch", "pairs", scale=PAIR, quiet=quiet)
    try:
        result = run(config, on_pair=report, notify=lambda line: say(line, quiet=quiet), progress=bar)
    finally:
        bar.close()
    if as_json:
        print_json(result, result.summary)
    elif not quiet or result.failed:
        print_table(result_rows(result))
    if result.failed:
        raise typer.Exit(SOME_FAILED)


def result_rows(result: BatchResult) -> list[tuple[str, str]]:
    """The closing table, with the failed pairs and their errors."""
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
        *([("", str(result.catalogue))] if result.catalogue is not None else []),
    ]


def _hours(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
