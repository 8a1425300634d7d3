"""Detect: the stages in order, from two GeoTIFFs to a GeoPackage."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from rscd.core.grid import gsd_m
from rscd.core.paths import publication_record
from rscd.core.pixel_area import PixelAreas
from rscd.core.publish import Publication, locked
from rscd.core.resources import Stopwatch, telemetry
from rscd.core.types import Progress
from rscd.inference.device import gpu_memory_mb
from rscd.inference.journal import open_journal, plan_work
from rscd.inference.strips import Tally, reported, strip_records
from rscd.inference.workers import prefetched
from rscd.model.registry import Model, with_model
from rscd.options.detect import DetectConfig
from rscd.output.outputs import About, Outputs
from rscd.output.project import Project
from rscd.output.provenance import origin_of, provenance, shown_path
from rscd.output.report.page import Report
from rscd.output.results import Facts, PairFacts, Result
from rscd.scene.files import fingerprint
from rscd.scene.window_stream import read_windows
from rscd.vectorize.attributes import Attributes
from rscd.workflows.setup import Loaded, Settings
from rscd.workflows.split import detect_split


def detect(
    config: DetectConfig,
    *,
    model: Model | Loaded | None = None,
    scheduler: str | None = None,
    progress: Progress = lambda done, total: None,
    on_start: Callable[[str], None] = lambda line: None,
    interrupt: Callable[[], None] = lambda: None,
) -> Result:
    """Map what changed between two GeoTIFFs.

    Finished strips are kept until everything is published: the same call continues an interrupted run, with the
    same result.

    Args:
        config: Inputs, outputs and options.
        model: A model from ``load_model``, for use on many pairs; default: ``config.model`` is loaded.
        scheduler: Address of a Dask scheduler whose workers see the same files: they share the strips. ``model``
            and ``interrupt`` then apply to this process only.
        progress: Called after each strip.
        on_start: Called with messages on device, model, licence and resumed strips, before the first window.
        interrupt: Called before each batch and after each strip; an exception that it raises ends the run there.

    Raises:
        UsageError: An option is out of range, or an output exists already.
        DataError, ModelError: The pair, or the model, was refused.
        Interrupted: The device was lost.
        OutputError: An output could not be written, or another run is writing it.
    """
    if scheduler is not None:
        return detect_split(config, scheduler, detect, progress=progress, on_start=on_start)
    watch, started = Stopwatch(), datetime.now(UTC)
    inputs = config.rasters
    outputs = Outputs.of(config)
    outputs.check(config.inputs, overwrite=config.overwrite, discard_reviews=config.discard_reviews)
    config = with_model(config) if model is None else config
    settings = Settings(config, model)
    with (
        locked(config.output) as folder,
        Publication(publication_record(config.output), overwrite=config.overwrite) as publication,
        settings.open() as run,
    ):
        seen = {role: fingerprint(path) for role, path in inputs.items()}
        for line in run.lines:
            on_start(line)
        pair, plan, contract, threshold = run.pair, run.plan, run.contract, run.threshold
        prepared, backend = run.prepared, run.predictor.backend
        asked = contract.threshold if config.threshold is None else config.threshold
        journal = open_journal(folder, plan, run.key, resume=config.resume, notify=on_start)
        work = plan_work(plan, threshold, journal=journal, all_pixels=config.report is not None)
        areas, tally, report = PixelAreas(pair.grid), Tally(resumed=len(journal)), Report(config.report, pair.grid)

        @cache
        def facts() -> dict[str, Any]:
            folder = None if config.full_paths else config.output.parent
            found = asdict(prepared.inspection)
            for date in ("before", "after"):
                found[date]["path"] = shown_path(Path(found[date]["path"]), folder)
            about = {"model": asdict(contract), "pair": found, "device": backend.device}
            how = {"backend": f"{backend.name} {backend.version}", "precision": backend.precision}
            ran = how | {"batch_size": run.predictor.batch_size, "bands_resumed": tally.resumed}
            return provenance(started, seen, config, folder=folder, **about, run=ran | asdict(run.predictor.faults))

        def on_strip(done: int, total: int) -> None:
            progress(done, total)
            interrupt()

        smallest = contract.minimum_m2(gsd_m(pair.grid))
        minimum = smallest if config.min_area_m2 is None else config.min_area_m2
        origin = origin_of(config, seen, (config.probability or config.output).parent)
        told = {"model": asdict(contract), "threshold": asked, "min_area_m2": minimum} | origin
        attributes = Attributes.of(pair, contract.bands, prepared.residuals_px)
        records = strip_records(  # last: reading starts here, and closing() below ends it
            prefetched(report.watch(watch.each("read", read_windows(pair, plan, work.read)))),
            plan,
            run.forward.timed(watch).interruptible(interrupt),
            threshold=threshold,
            areas=areas,
            work=work,
            tally=tally,
            watch=watch,
        )
        with closing(prefetched(watch.each("strips", records))) as stream:
            written = outputs.write(
                reported(stream, on_strip, pair.grid),
                areas,
                About(facts, smallest, told),
                publication,
                attributes=attributes,
                report=report,
                watch=watch,
                outside=pair.outside_aoi if pair.aoi is not None else None,
            )
        dates = config.dates or prepared.inspection.days
        cost, found = telemetry(watch, gpu_memory_mb(backend.device)), PairFacts.of(prepared)
        shown = Facts(
            written,
            asked,
            cost,
            facts(),
            f"{backend.precision} in {backend.name}",
            found,
            title=config.title,
            dates=dates,
        )
        report.write(shown, publication)
        interrupt()
        project = (
            Project(config.project, config, pair.grid, (pair.before, pair.after), attributes, dates)
            if config.project is not None
            else None
        )
        written = outputs.publish(written, publication, discard_reviews=config.discard_reviews, project=project)
        journal.close(keep=config.keep_journal)
    return Result(
        written=written,
        inspection=prepared.inspection,
        threshold=asked,
        windows=tally.windows,
        windows_skipped=tally.skipped,
        bands_resumed=tally.resumed,
        device=backend.device,
        model=f"{contract.name} {contract.version}",
        licence=contract.licence,
        seconds=cost.wall_s,
        cost=cost,
    )
