"""Detect: the stages in order, from two GeoTIFFs to a GeoPackage."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rscd.config import DetectConfig
from rscd.inference.bands import Tally, band_records, interruptible
from rscd.inference.idle import gpu_memory_mb, idle_gpu
from rscd.inference.journal import open_journal
from rscd.inference.lock import locked, publication_record
from rscd.inference.predictor import Predictor, choose_device, choose_window
from rscd.inference.rescale import fit_to, window_on_grid
from rscd.inference.runkey import run_key
from rscd.inference.stream import ahead
from rscd.inference.tune import tune
from rscd.inference.work import plan_work
from rscd.model.contract import Contract
from rscd.model.registry import load_model
from rscd.output.area import PixelAreas
from rscd.output.components import threshold_value
from rscd.output.evidence import Evidence, band_names
from rscd.output.facts import Facts, PairFacts
from rscd.output.outputs import Outputs, Progress
from rscd.output.provenance import provenance
from rscd.output.publish import Publication
from rscd.output.report import Report
from rscd.result import Result
from rscd.scene.grid import gsd_m
from rscd.scene.pair import open_pair
from rscd.scene.prepare import prepare
from rscd.scene.reader import read_bands
from rscd.scene.windows import WindowPlan
from rscd.telemetry import Stopwatch, telemetry
from rscd.types import P_SCALE

if TYPE_CHECKING:
    from torch import nn


def detect(
    config: DetectConfig,
    *,
    model: tuple[nn.Module, Contract] | None = None,
    progress: Progress = lambda done, total: None,
    on_start: Callable[[str], None] = lambda line: None,
    interrupt: Callable[[], None] = lambda: None,
) -> Result:
    """Map what changed between two GeoTIFFs.

    Finished bands are kept until all is published: run again, and a run that ended goes on, to the same result.

    Args:
        config: Inputs, outputs and options.
        model: A model from ``load_model``, for use on many pairs; default: ``config.model`` is loaded.
        progress: Called after each band.
        on_start: Called with lines on device, model and its terms, and what is resumed, before the first window.
        interrupt: Called before each batch and after each band; what it raises ends the run there.

    Raises:
        UsageError: An option out of range, or an output that exists.
        DataError, ModelError: The pair, or the model, was refused.
        Interrupted: The device was lost.
        OutputError: An output could not be written, or another run is writing it.
    """
    watch, started = Stopwatch(), datetime.now(UTC)
    inputs = {"before": config.before, "after": config.after}
    outputs = Outputs.of(config)
    outputs.check(inputs.values(), overwrite=config.overwrite, record=publication_record(config.output))
    device = choose_device(config.device)
    network, contract = model or load_model(config.model)
    window, overlap = choose_window(config.window, config.overlap, contract)
    threshold = threshold_value(contract.threshold if config.threshold is None else config.threshold)
    predictor = Predictor(network, contract.temperature, device, config.precision, config.batch_size)
    with (
        locked(config.output) as folder,
        Publication(publication_record(config.output)) as publication,
        open_pair(config, contract.bands) as opened,
    ):
        prepared = prepare(opened, contract, config)
        if prepared.refusal is not None:
            raise prepared.refusal
        on_start(f"device {device}, {predictor.precision}" + idle_gpu(device))
        on_start(f"model {contract.name} {contract.version}, {contract.encoder}; licence: {contract.licence}")
        on_start(prepared.inspection.line)
        pair, forward = prepared.pair, fit_to(predictor, window, prepared.factor)
        plan = WindowPlan.over(*pair.grid.shape, *window_on_grid(window, overlap, prepared.factor))
        tune(predictor, window, plan)
        key = run_key(config, contract, predictor, plan, prepared.factor)
        journal = open_journal(folder, plan, key, resume=config.resume, tell=on_start)
        work = plan_work(plan, threshold, journal=journal, all_pixels=config.report is not None)
        areas, tally, report = PixelAreas(pair.grid), Tally(resumed=len(journal)), Report(config.report, pair.grid)
        names = band_names(contract.bands, len(pair.before.raster.bands))
        records = band_records(
            ahead(report.watch(watch.each("read", read_bands(pair, plan, work.read)))),
            plan,
            interruptible(watch.call("forward", forward), interrupt),
            batch_size=predictor.batch_size,
            threshold=threshold,
            grid=pair.grid,
            areas=areas,
            work=work,
            tally=tally,
            watch=watch,
        )

        def facts() -> dict[str, Any]:
            about = {"model": asdict(contract), "pair": asdict(prepared.inspection), "device": str(device)}
            ran = {"batch_size": predictor.batch_size, "bands_resumed": tally.resumed, **asdict(predictor.faults)}
            return provenance(started, inputs, config, **about, run=ran)

        def on_band(done: int, total: int) -> None:
            progress(done, total)
            interrupt()

        with closing(ahead(watch.each("bands", records))) as stream:
            written = outputs.write(
                stream,
                pair.grid,
                areas,
                minimum_m2=contract.minimum_m2(gsd_m(pair.grid)),
                provenance=facts,
                publication=publication,
                progress=on_band,
                evidence=Evidence(pair.grid, names, prepared.residuals_px),
                report=report,
                watch=watch,
            )
        cost, found = telemetry(watch, gpu_memory_mb(device)), PairFacts.of(prepared)
        report.write(Facts(written, threshold / P_SCALE, cost, facts(), predictor.precision, found), publication)
        interrupt()
        publication.publish()
        journal.close(keep=config.keep_journal)
    return Result(
        written=written,
        inspection=prepared.inspection,
        threshold=threshold / P_SCALE,
        windows=tally.windows,
        windows_skipped=tally.skipped,
        bands_resumed=tally.resumed,
        device=str(device),
        model=f"{contract.name} {contract.version}",
        licence=contract.licence,
        seconds=cost.wall_s,
        cost=cost,
    )
