"""One pair of an archive: the job that a worker gets, and the outcome that it returns."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rscd.core.errors import DataError, ModelError, RscdError
from rscd.model.catalog import DEFAULT
from rscd.model.registry import trained_model, with_model
from rscd.options.batch import BatchConfig
from rscd.options.declare import declared
from rscd.options.detect import DetectConfig
from rscd.scene.files import fingerprint

if TYPE_CHECKING:
    from rscd.core.contract import Contract
    from rscd.jobs.pairs import ManifestPair


CHANGES, PROBABILITY, REPORT = "changes.gpkg", "probability.tif", "report.html"
"""Names of a pair's outputs in its folder."""


@dataclass(frozen=True)
class PairJob:
    """Everything that a worker needs to run a pair."""

    id: str
    """Its name."""
    config: DetectConfig
    """Its files and options; outputs go to its own folder, and existing ones are replaced."""
    model_sha256: str
    """Hash of the weights that it must be run with."""
    own_model: bool = False
    """Whether the manifest names a model for this pair."""
    problem: str = ""
    """Why it cannot be run, if known in advance; else empty."""


@dataclass(frozen=True)
class PairOutcome:
    """Result of running a pair."""

    id: str
    """Its name."""
    state: Literal["done", "failed"]
    """Whether its outputs exist."""
    error: str = ""
    """Why it failed."""
    exit_code: int = 0
    """Exit code of ``rscd detect`` for this pair."""
    fingerprint: str = ""
    """Fingerprint of inputs, model and options when it started; empty if an input was missing."""
    seconds: float = 0.0
    """Wall time, s."""
    windows: int = 0
    """Windows forwarded."""
    polygons: int = 0
    """Number of change polygons."""
    changed_m2: float = 0.0
    """Their area, m2."""
    observed_km2: float = 0.0
    """Area observable on both dates, km2."""
    not_observable_km2: float = 0.0
    """Area not observable on at least one date, km2."""
    worker: str = ""
    """Machine and device that it ran on."""
    verdict: str = ""
    """Verdict of the inspection: whether the dates can be compared."""
    model: str = ""
    """Name and version of the model."""
    valid_share: float | None = None
    """Share of the overlap that is valid in both dates, 0..1."""
    shift_px: float | None = None
    """Measured shift between the dates, px; None if it could not be measured."""
    reviews: str = ""
    """What became of the reviews in the replaced file, as text."""
    for_all: bool = False
    """Whether the cause of failure is common to all pairs, so that all others would fail too."""


def job_of(pair: ManifestPair, batch: BatchConfig, shared: tuple[Path, Contract] | None) -> PairJob:
    """A pair's job: the shared options with its own paths, threshold and model.

    Args:
        pair: Its entry in the manifest.
        batch: The options.
        shared: Path and contract of the model of all pairs; None: each uses the embedded model whose pixel sizes
            fit.
    """
    folder, options = batch.output.absolute() / pair.id, batch.detect
    config = dataclasses.replace(
        options,
        before=pair.before,
        after=pair.after,
        aoi=pair.aoi,
        threshold=options.threshold if pair.threshold is None else pair.threshold,
        output=folder / CHANGES,
        probability=folder / PROBABILITY if options.probability else None,
        report=folder / REPORT if options.report else None,
        overwrite=True,
        remote=batch.allow_remote,
    )
    own = bool(pair.model) or shared is None
    problem = pair.problem
    try:
        path, contract = shared if shared is not None and not pair.model else trained_model(_named(pair, config))
    except ModelError as error:
        return PairJob(pair.id, config, "", own_model=True, problem=problem or error.line)
    config = dataclasses.replace(config, model=str(path.absolute()))
    return PairJob(pair.id, config, contract.sha256, own_model=own, problem=problem)


def _named(pair: ManifestPair, config: DetectConfig) -> str:
    if pair.model:
        return pair.model
    try:
        return str(with_model(config).model)
    except DataError:  # the run reports it better
        return DEFAULT


def job_fingerprint(job: PairJob) -> str:
    """Sha256 of everything that determines a pair's results: fingerprints of its files, the model's hash, options.

    Raises:
        OSError: An input is missing.
        DataError: A remote input does not answer.
    """
    config = job.config
    files = {**config.rasters, "aoi": config.aoi}
    content: dict[str, Any] = {
        role: {k: v for k, v in fingerprint(path).items() if k != "path"} for role, path in files.items() if path
    }
    content["model"] = job.model_sha256
    content["options"] = {
        each.name: getattr(config, each.name)
        for each in declared(DetectConfig)
        if each.option.changes not in ("nothing", "rounding") and not (each.is_file or each.option.model)
    }
    content["outputs"] = [path.name for path in outputs(config)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def outputs(config: DetectConfig) -> list[Path]:
    """The output files that a pair is to write."""
    return [path for path in (config.output, config.probability, config.report) if path is not None]


def is_current(job: PairJob, known: str) -> bool:
    """Whether a pair was done with the current inputs, model and options, and its outputs still exist."""
    try:
        return all(path.is_file() for path in outputs(job.config)) and job_fingerprint(job) == known
    except (OSError, DataError):
        return False


def failed(job: PairJob, error: BaseException) -> PairOutcome:
    """The outcome of a pair whose worker raised an error or died."""
    text = error.line if isinstance(error, RscdError) else f"{type(error).__name__}: {error}"
    return PairOutcome(job.id, "failed", " ".join(text.split()), getattr(error, "exit_code", 1))
