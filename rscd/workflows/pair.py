"""One pair of an archive: run on a worker, or estimated from its headers and one timed batch."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from rscd.core.errors import DataError, ModelError, RscdError, UsageError
from rscd.core.grid import gsd_m
from rscd.core.types import intersection
from rscd.inference.predictor import Predictor, Windows
from rscd.jobs.job import PairJob, PairOutcome, job_fingerprint
from rscd.model.catalog import DEFAULT, read_contract
from rscd.model.registry import Model
from rscd.options.detect import DetectConfig
from rscd.scene.pair import open_pair
from rscd.scene.windows import WindowPlan
from rscd.workflows.detect import detect
from rscd.workflows.setup import worker_model


def run_pair(
    job: PairJob,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PairOutcome:
    """Detect one pair, in the calling process.

    Errors of the pair, the options or the model are returned as an outcome, because another try would fail in the
    same way; other errors are raised.

    Raises:
        OutputError: An output could not be written.
    """
    started, host = perf_counter(), socket.gethostname()
    if job.problem:
        return PairOutcome(job.id, "failed", job.problem, DataError.exit_code, worker=host)
    try:
        known = _fingerprint(job)
        _make_folder(job.config.output.parent)
        model = worker_model(str(job.config.model), job.model_sha256)
        result = detect(job.config, model=model, progress=progress)
    except (DataError, UsageError, ModelError) as error:
        seconds = perf_counter() - started
        why = error.line
        shared = isinstance(error, ModelError) and not job.own_model
        for_all = shared or (isinstance(error, UsageError) and error.path is None)
        return PairOutcome(job.id, "failed", why, error.exit_code, seconds=seconds, worker=host, for_all=for_all)
    written, found = result.written, result.inspection
    shift = found.shift.length_px if found.shift is not None else math.nan
    return PairOutcome(
        id=job.id,
        state="done",
        fingerprint=known,
        seconds=perf_counter() - started,
        windows=result.windows,
        polygons=written.polygons,
        changed_m2=written.changed_m2,
        observed_km2=written.observed_km2,
        not_observable_km2=written.not_observable_km2,
        worker=f"{host} {result.device}",
        verdict=found.verdict,
        model=result.model,
        valid_share=found.valid_share,
        shift_px=None if math.isnan(shift) else shift,
        reviews=str(written.reviews) if written.reviews else "",
    )


def _make_folder(folder: Path) -> None:
    """Make a pair's folder.

    Raises:
        DataError: A file has that name.
    """
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise DataError(
            "is a file, but the pair's folder must be here", path=folder, remedy="move it away"
        ) from error


def _fingerprint(job: PairJob) -> str:
    """The fingerprint; empty if a file is missing, which detect reports better."""
    try:
        return job_fingerprint(job)
    except OSError:
        return ""


READERS = 8
"""Pairs whose headers are read at once."""
TRIALS = 2
"""Timed batches, after one that is not timed."""


@dataclass(frozen=True)
class PairEstimate:
    """Estimate for a pair, from its headers."""

    id: str
    """Its name."""
    width: int = 0
    """Columns of the common grid."""
    height: int = 0
    """Rows of the common grid."""
    windows: int = 0
    """Windows in the dates' overlap; those without a valid pixel will not be forwarded."""
    forwarded_mpx: float = 0.0
    """Their size at the model's pixel size, Mpx (10^6 px)."""
    problem: str = ""
    """Why it cannot be run; empty if it can."""

    @property
    def megapixels(self) -> float:
        """Size of the common grid, Mpx (10^6 px)."""
        return self.width * self.height / 1e6


def estimate_pairs(jobs: Iterable[PairJob]) -> Iterator[PairEstimate]:
    """Read the headers of all pairs, several at once; yields them in order."""
    with ThreadPoolExecutor(READERS) as pool:
        yield from pool.map(estimate_pair, jobs)


def estimate_pair(job: PairJob) -> PairEstimate:
    """Open a pair, and count its windows."""
    config = job.config
    if job.problem:
        return PairEstimate(job.id, problem=job.problem)
    try:
        contract = read_contract(Path(str(config.model)))
        with open_pair(config, contract.bands) as pair:
            gsd = gsd_m(pair.full)
            wanted = None if config.force_gsd else contract.working_gsd(gsd, config.before)
            factor = 1.0 if wanted is None else wanted / gsd
            windows = Windows.of(contract, config.window, config.overlap).over(*pair.full.shape, factor)
            sides = windows.on_grid(factor)
            read = intersection(pair.with_margin(sides[1]).crop, pair.overlap.window)
            count = WindowPlan.on(pair.full, read, *sides).count
            forwarded = count * windows.side**2 / 1e6
            return PairEstimate(job.id, pair.grid.width, pair.grid.height, count, forwarded)
    except RscdError as error:
        return PairEstimate(job.id, problem=error.line)


def seconds_per_mpx(config: DetectConfig) -> tuple[float, str]:
    """Time one batch on all threads of this machine: s per Mpx of windows, and the device.

    Reading and writing mostly overlap with it.
    """
    model = Model.named(config.model or DEFAULT)
    side = Windows.of(model.contract, config.window, config.overlap).side
    predictor = Predictor.of(model, config, side, calls=1)
    shape = predictor.batch_size, len(model.contract.bands), side, side
    images = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    taken = []
    for _ in range(1 + TRIALS):
        start = perf_counter()
        predictor(images[0], images[1])
        taken.append(perf_counter() - start)
    return min(taken[1:]) / (predictor.batch_size * side**2 / 1e6), predictor.backend.device
