"""One pair of an archive, run on a worker."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from rscd.core.errors import DataError, ModelError, UsageError
from rscd.jobs.job import PairJob, PairOutcome, job_fingerprint
from rscd.workflows.detect import detect
from rscd.workflows.setup import worker_model


def run_pair(
    job: PairJob,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PairOutcome:
    """Detect one pair, in the calling process.

    What the pair, the options or the model are refused for comes back as an outcome, for another try would end
    the same way; anything else is raised.

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
        DataError: Something else is in its place.
    """
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise DataError(
            "is a file, where the pair's folder is to be", path=folder, remedy="move it away"
        ) from error


def _fingerprint(job: PairJob) -> str:
    """The fingerprint, or nothing where a file is missing: detect says so in better words."""
    try:
        return job_fingerprint(job)
    except OSError:
        return ""
