"""Detect: the stages in order, from two GeoTIFFs to a GeoPackage."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache, partial
from typing import TYPE_CHECKING

from rscd.config import DetectConfig
from rscd.inference.bands import Tally, band_records
from rscd.inference.idle import gpu_memory_mb, idle_gpu
from rscd.inference.predictor import Predictor, choose_device, choose_window
from rscd.inference.rescale import fit_to, window_on_grid
from rscd.inference.stream import ahead
from rscd.model.contract import Contract
from rscd.model.registry import load_model
from rscd.output.area import PixelAreas
from rscd.output.components import threshold_value
from rscd.output.evidence import Evidence, band_names
from rscd.output.facts import Facts, PairFacts
from rscd.output.outputs import Outputs, Progress, Written
from rscd.output.provenance import provenance
from rscd.output.report import Report
from rscd.scene.fingerprint import fingerprint
from rscd.scene.grid import gsd_m
from rscd.scene.inspection import Inspection
from rscd.scene.pair import open_pair
from rscd.scene.prepare import prepare
from rscd.scene.reader import read_bands
from rscd.scene.windows import WindowPlan
from rscd.telemetry import Stopwatch, Telemetry, telemetry
from rscd.types import P_SCALE

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Result:
    """What a run did, in numbers."""

    written: Written
    """Paths, polygons, areas."""
    inspection: Inspection
    """How the pair was found, and the verdict on it."""
    threshold: float
    """Probability from which a pixel counted as changed, 0..1."""
    windows: int
    """Windows forwarded."""
    windows_skipped: int
    """Windows not forwarded, for they have no valid pixel."""
    device: str
    """Where the network ran."""
    model: str
    """Name and version of the model."""
    licence: str
    """Terms of the model's weights."""
    seconds: float
    """Wall time in s, without the report's."""
    cost: Telemetry
    """Times of the stages, and memory."""


def detect(
    config: DetectConfig,
    *,
    model: tuple[nn.Module, Contract] | None = None,
    progress: Progress = lambda done, total: None,
    on_start: Callable[[str], None] = lambda line: None,
) -> Result:
    """Map what changed between two GeoTIFFs.

    Args:
        config: Inputs, outputs and options.
        model: A model from ``load_model``, for use on many pairs; default: ``config.model`` is loaded.
        progress: Called after each band.
        on_start: Called with lines on device, model and its terms before the first window.

    Raises:
        UsageError: An option out of range, or an output that exists.
        DataError: The pair was refused.
        ModelError: The model was refused.
        OutputError: An output could not be written.
    """
    watch, started = Stopwatch(), datetime.now(UTC)
    inputs = {"before": config.before, "after": config.after}
    shaping = config.min_area_m2, config.simplify_m, config.fill_holes_m2, config.regularize
    outputs = Outputs(config.output, config.probability, config.report, *shaping)
    outputs.check(config.inputs, overwrite=config.overwrite)
    device = choose_device(config.device)
    network, contract = model or load_model(config.model)
    window, overlap = choose_window(config.window, config.overlap, contract)
    threshold = threshold_value(contract.threshold if config.threshold is None else config.threshold)
    predictor = Predictor(network, contract.temperature, device, config.precision, config.batch_size)
    with open_pair(config, contract.bands) as opened:
        seen = {role: fingerprint(path) for role, path in inputs.items()}
        prepared = prepare(opened, contract, config)
        if prepared.refusal is not None:
            raise prepared.refusal
        on_start(f"device {device}, {predictor.precision}" + idle_gpu(device))
        on_start(f"model {contract.name} {contract.version}, {contract.encoder}; licence: {contract.licence}")
        on_start(prepared.inspection.line)
        pair, forward = prepared.pair, fit_to(predictor, window, prepared.factor)
        plan = WindowPlan.over(*pair.grid.shape, *window_on_grid(window, overlap, prepared.factor))
        areas, tally = PixelAreas(pair.grid), Tally()
        report = Report(config.report, pair.grid)
        names = band_names(contract.bands, len(pair.before.raster.bands))
        told = {"model": asdict(contract), "pair": asdict(prepared.inspection)}
        records = band_records(
            watch.each("wait", ahead(report.watch(watch.each("read", read_bands(pair, plan))))),
            plan,
            watch.call("forward", forward),
            batch_size=config.batch_size,
            threshold=threshold,
            grid=pair.grid,
            areas=areas,
            tally=tally,
        )
        facts = cache(partial(provenance, started, seen, config, **told, device=str(device)))
        with closing(ahead(watch.each("bands", records))) as stream:
            written = outputs.write(
                stream,
                pair.grid,
                areas,
                minimum_m2=contract.minimum_m2(gsd_m(pair.grid)),
                provenance=facts,
                progress=progress,
                evidence=Evidence(pair.grid, names, prepared.residuals_px),
                report=report,
                watch=watch,
            )
        cost = telemetry(watch, gpu_memory_mb(device))
        found = PairFacts.of(prepared)
        report.publish(Facts(written, threshold / P_SCALE, cost, facts(), predictor.precision, found))
    return Result(
        written=written,
        inspection=prepared.inspection,
        threshold=threshold / P_SCALE,
        windows=tally.windows,
        windows_skipped=tally.skipped,
        device=str(device),
        model=f"{contract.name} {contract.version}",
        licence=contract.licence,
        seconds=cost.wall_s,
        cost=cost,
    )
