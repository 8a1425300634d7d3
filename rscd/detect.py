"""Detect: the stages in order, from two GeoTIFFs to a GeoPackage."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter

from rscd.config import DetectConfig, PolygonsConfig
from rscd.errors import DataError, UsageError
from rscd.inference.bands import Tally, band_records
from rscd.inference.predictor import Predictor, check_window, choose_device
from rscd.inference.stream import ahead
from rscd.model.contract import Contract
from rscd.model.registry import load_model
from rscd.output.area import PixelAreas
from rscd.output.components import band_record
from rscd.output.outputs import Outputs, Progress, Written
from rscd.output.probability import KeptProbability
from rscd.output.provenance import provenance
from rscd.output.publish import check_target
from rscd.scene.grid import gsd_m
from rscd.scene.pair import open_pair
from rscd.scene.reader import read_bands
from rscd.scene.windows import WindowPlan
from rscd.types import P_SCALE, Grid

MINIMUM_PX = 4
"""Smallest polygon in px where no contract says otherwise."""


@dataclass(frozen=True)
class Result:
    """What a run wrote, in numbers."""

    written: Written
    """Paths, polygons, areas."""
    threshold: float
    """Probability from which a pixel counted as changed, 0..1."""
    min_area_m2: float
    """Components smaller than this were dropped, m2."""
    seconds: float
    """Wall time."""
    windows: int = 0
    """Windows forwarded."""
    windows_skipped: int = 0
    """Windows not forwarded, for they have no valid pixel."""
    device: str = ""
    """Where the network ran."""
    model: str = ""
    """Name and version of the model."""
    licence: str = ""
    """Terms of the model's weights."""


def detect(
    config: DetectConfig,
    progress: Progress = lambda done, total: None,
    on_start: Callable[[str], None] = lambda line: None,
) -> Result:
    """Map what changed between two GeoTIFFs.

    Args:
        config: Inputs, outputs and options.
        progress: Called after each band.
        on_start: Called with a line on device, model and its terms before the first window.

    Raises:
        UsageError: An option out of range, or an output that exists.
        DataError: The pair was refused.
        ModelError: The model was refused.
        OutputError: An output could not be written.
    """
    clock, started = perf_counter(), datetime.now(UTC)
    _check_targets(config)
    device = choose_device(config.device)
    network, contract = load_model(config.model)
    window = contract.window if config.window is None else config.window
    overlap = min(contract.overlap, window // 4) if config.overlap is None else config.overlap
    check_window(window, overlap)
    threshold = _threshold_value(contract.threshold if config.threshold is None else config.threshold)
    predictor = Predictor(
        network,
        temperature=contract.temperature,
        device=device,
        precision=config.precision,
        batch_size=config.batch_size,
    )
    on_start(f"device {device}, {predictor.precision}; model {contract.name} {contract.version} ({contract.encoder})")
    on_start(f"model licence: {contract.licence}")
    with open_pair(config.before, config.after, config.bands or (1, 2, 3)) as pair:
        _check_gsd(pair.grid, contract, config)
        plan = WindowPlan.over(*pair.grid.shape, window, overlap)
        areas, tally = PixelAreas(pair.grid), Tally()
        records = band_records(
            ahead(read_bands(pair, plan)),
            plan,
            predictor,
            batch_size=config.batch_size,
            threshold=threshold,
            grid=pair.grid,
            areas=areas,
            tally=tally,
        )
        min_area = _min_area(config.min_area_m2, contract.minimum_mapping_px, pair.grid)
        outputs = Outputs(pair.grid, areas, config.output, config.probability, min_area, config.simplify_m)
        inputs = {"before": config.before, "after": config.after}
        facts = partial(provenance, started, inputs, config, model=asdict(contract), device=str(device))
        written = outputs.write(ahead(records), facts, progress)
    return Result(
        written=written,
        threshold=threshold / P_SCALE,
        min_area_m2=min_area,
        seconds=perf_counter() - clock,
        windows=tally.windows,
        windows_skipped=tally.skipped,
        device=str(device),
        model=f"{contract.name} {contract.version}",
        licence=contract.licence,
    )


def polygons(config: PolygonsConfig, progress: Progress = lambda done, total: None) -> Result:
    """Make polygons anew from a kept probability raster; forwards nothing.

    Raises:
        UsageError: An option out of range, or an output that exists.
        DataError: The raster was refused.
        OutputError: The output could not be written.
    """
    clock, started = perf_counter(), datetime.now(UTC)
    check_target(config.output, overwrite=config.overwrite)
    kept = KeptProbability(config.probability)
    threshold, areas = _threshold_value(config.threshold), PixelAreas(kept.grid)
    records = (
        band_record(i, row, values, threshold=threshold, grid_shape=kept.grid.shape, pixel_areas=areas)
        for i, (row, values) in enumerate(kept.strips())
    )
    min_area = _min_area(config.min_area_m2, MINIMUM_PX, kept.grid)
    outputs = Outputs(kept.grid, areas, config.output, None, min_area, config.simplify_m)
    facts = partial(provenance, started, {"probability": config.probability}, config)
    written = outputs.write(ahead(records), facts, progress)
    return Result(written, threshold / P_SCALE, min_area, perf_counter() - clock)


def _check_targets(config: DetectConfig) -> None:
    """Refuse outputs that exist, cannot be made, or are an input."""
    targets = [path for path in (config.output, config.probability) if path is not None]
    for path in targets:
        if path.resolve() in {config.before.resolve(), config.after.resolve()}:
            raise UsageError("is an input and an output", path=path, remedy="name another output")
        check_target(path, overwrite=config.overwrite)
    if len({path.resolve() for path in targets}) < len(targets):
        raise UsageError("two outputs have one path", path=config.output, remedy="name another --probability")


def _threshold_value(threshold: float) -> int:
    """The smallest probability value that is at least the threshold."""
    if not 0 < threshold <= 1:
        raise UsageError(f"--threshold {threshold}", remedy="use a probability above 0, at most 1")
    return math.ceil(threshold * P_SCALE - 1e-9)


def _min_area(asked_m2: float | None, minimum_px: int, grid: Grid) -> float:
    """The smallest polygon in m2: as asked, or so many pixels."""
    if asked_m2 is None:
        return minimum_px * gsd_m(grid) ** 2 * (1 - 1e-6)  # so that exactly so many pixels pass
    if asked_m2 < 0:
        raise UsageError(f"--min-area {asked_m2}", remedy="use 0 or more m2")
    return asked_m2


def _check_gsd(grid: Grid, contract: Contract, config: DetectConfig) -> None:
    """Refuse a scene whose pixels are finer or coarser than the model was trained for."""
    gsd, (low, high) = gsd_m(grid), contract.gsd_m
    if not (0.99 * low <= gsd <= 1.01 * high or config.force_gsd):
        problem = f"ground sample distance is {gsd:.3g} m, and model {contract.name} takes {low:g} to {high:g} m"
        raise DataError(problem, path=config.before, remedy="resample both dates, or add --force-gsd to go on all the same")
