"""The key of a run: all that its strips depend on, so that no strip of another run is taken for one of it."""

from __future__ import annotations

import dataclasses
import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rscd.core.version import VERSION
from rscd.inference.predictor import Predictor
from rscd.model.registry import Model
from rscd.options.declare import names
from rscd.options.detect import DetectConfig
from rscd.scene.files import fingerprint, sidecars_of
from rscd.scene.windows import WindowPlan


def run_key(
    config: DetectConfig, model: Model, predictor: Predictor, plan: WindowPlan, factor: float
) -> dict[str, Any]:
    """The key as JSON holds it: of inputs, model, options, device and versions.

    Args:
        config: Inputs and options.
        model: Its contract and its weights.
        predictor: Says what backend, device, precision and batch size came out of ``auto``.
        plan: The windows on the scene.
        factor: Model pixel size divided by scene pixel size.
    """
    in_key = names(DetectConfig, changes=("strips", "rounding"), resolved=False)
    contract, backend = model.contract, predictor.backend
    digest = hashlib.sha256(contract.to_json().encode())
    digest.update(model.sha256.encode())
    return {
        **{role: _file(path) for role, path in _files(config).items()},
        "model": f"{contract.name} {contract.version} {digest.hexdigest()}",
        "options": {name: getattr(config, name) for name in in_key},
        "windows": {"rows": dataclasses.asdict(plan.rows), "columns": dataclasses.asdict(plan.cols)},
        "resampling": factor,
        "backend": backend.name,
        "device": backend.device.partition(":")[0],
        "precision": backend.precision,
        "batch_size": predictor.batch_size,
        "threads": backend.threads,
        "versions": {"rscd": VERSION, backend.name: backend.version}
        | ({} if factor == 1 else {"torch": version("torch")}),  # which resamples
    }


def _files(config: DetectConfig) -> dict[str, Path]:
    rasters = config.rasters
    files = rasters if config.aoi is None else rasters | {"aoi": config.aoi}
    if config.sidecars:
        files |= {f"{role}{path.suffix}": path for role in rasters for path in sidecars_of(rasters[role])}
    return files


def _file(path: Path) -> dict[str, Any]:
    """What a file is, wherever it lies."""
    return {name: value for name, value in fingerprint(path).items() if name != "path"}
